"""`RUN/hosts/nodes.json`: which attempt of a training is at work, and on which hosts.

Of a training whose nodes others start. A node whose attempt is not that one ends by itself: it
may be cut off from whoever started it, but not from the folder that it writes to.
"""

import json
from pathlib import Path
from typing import Any

from quickdraw_core.launching.rendezvous import HOSTS_NAME
from quickdraw_core.system.files import write_atomic

_NAME = "nodes.json"


def write_attempt(run_dir: Path, attempt: str, hosts: list[str], device: str) -> None:
    """Notes an attempt. attempt: its id; empty: it is over. hosts, device: what it runs on."""
    value = {"attempt": attempt, "hosts": hosts, "device": device}
    write_atomic(run_dir / HOSTS_NAME / _NAME, json.dumps(value, indent=1) + "\n")


def read_attempt(run_dir: Path) -> dict[str, Any] | None:
    """The last attempt; None if there was none, or it cannot be read now."""
    try:
        value = json.loads((run_dir / HOSTS_NAME / _NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
