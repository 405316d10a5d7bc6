"""Which job last started a folder, or parts of it, over with --fresh: a file in it that says so.

A launcher that starts its job again gives it the same options. What the job itself has begun is
then to go on, whatever they say.
"""

import json
from collections.abc import Sequence

from quickdraw_core.storage.storage import Storage

BEGUN_BY_NAME = ".begun-by"
_WHOLE = ("",)


def note_begun(storage: Storage, job: str, parts: Sequence[str] = _WHOLE) -> None:
    """Notes that a job has started over there, once what was there before no longer counts.

    job: by a name that no other has; empty: nothing starts it again. parts: names of those that it
    has started over, if the folder has several; who began the others stays.
    """
    begun = {part: other for part, other in _read(storage).items() if part not in parts}
    if job:
        begun |= dict.fromkeys(parts, job)
    if begun:
        storage.write(BEGUN_BY_NAME, json.dumps(begun).encode())
    else:
        storage.remove(BEGUN_BY_NAME)


def is_begun_by(storage: Storage, job: str, parts: Sequence[str] = _WHOLE) -> bool:
    """Whether this job was the last to start over there: each of the parts."""
    begun = _read(storage) if job else {}
    return bool(job) and all(begun.get(part) == job for part in parts)


def _read(storage: Storage) -> dict[str, str]:
    """Part → job. Empty if nothing of that form is there: nobody's work goes on by it then."""
    try:
        begun = json.loads(storage.read(BEGUN_BY_NAME))
    except (FileNotFoundError, ValueError):
        return {}
    return begun if isinstance(begun, dict) else {}
