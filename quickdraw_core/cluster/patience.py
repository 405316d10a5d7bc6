"""How long a cluster is waited for that works, or has workers."""

from time import monotonic
from typing import Any

from quickdraw_core.errors import ClusterError

PATIENCE_SECONDS = 60.0
"""How long a cluster may be without a worker that can do the work."""

LOST = "the Dask scheduler was lost while it worked; start it again if it ended, and run again"


def require_scheduler(client: Any) -> None:
    """Raises `ClusterError` if a client has lost its scheduler. One that is connecting again has:
    Dask has cancelled all that it waited for.
    """
    if client.status != "running":
        raise ClusterError(LOST)


class Patience:
    """How long to wait, from now on, for a cluster without workers."""

    def __init__(self) -> None:
        self._deadline = monotonic() + PATIENCE_SECONDS

    def check(self, workers: int) -> None:
        """Raises `ClusterError` if there were none for too long. workers: that can do the work
        now, or their hosts or threads.
        """
        if workers:
            self._deadline = monotonic() + PATIENCE_SECONDS
        elif monotonic() > self._deadline:
            raise ClusterError(
                f"the Dask cluster had no worker for {PATIENCE_SECONDS:.0f} s; start some and "
                "run again"
            )
