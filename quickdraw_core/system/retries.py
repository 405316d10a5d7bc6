"""When to try again: how many attempts in a row may fail, and how long to wait between them."""

import random
from math import inf
from time import monotonic


class PassingError(Exception):
    """An attempt failed in a way that the next one may not.

    wait_seconds: how long the server asks to be left alone.
    """

    def __init__(self, reason: str, wait_seconds: float = 0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Attempts:
    """Counts the failures in a row at one thing.

    retries: how many further attempts may follow a first one; backoff_seconds: the pause before
    the first of them, which doubles with each; max_pause_seconds: no pause is longer, even when a
    server asks for it; seconds: no further attempt begins later.
    """

    def __init__(
        self,
        retries: float,
        backoff_seconds: float,
        seconds: float = inf,
        max_pause_seconds: float = 60.0,
    ) -> None:
        self._retries, self._backoff_seconds, self._seconds = retries, backoff_seconds, seconds
        self._max_pause_seconds = max_pause_seconds
        self.succeeded()

    def succeeded(self) -> None:
        """Counts from the beginning: an attempt brought something new."""
        self.failures, self._since = 0, monotonic()

    def failed(self, error: Exception) -> float | None:
        """Seconds to wait before the next attempt; None if there is to be none.

        With jitter, so that threads do not come back all at once.
        """
        self.failures += 1
        if self.failures > self._retries or monotonic() - self._since > self._seconds:
            return None
        pause = self._backoff_seconds * 2.0 ** min(self.failures - 1, 20) * random.uniform(0.5, 1)
        asked = error.wait_seconds if isinstance(error, PassingError) else 0
        return min(max(pause, asked * random.uniform(1, 1.1)), self._max_pause_seconds)
