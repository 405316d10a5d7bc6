"""Which job last started a folder over with --fresh: a file in it that says so.

A launcher that starts its job again gives it the same options. What the job itself has begun is
then to go on, whatever they say.
"""

from quickdraw_core.storage.storage import Storage

BEGUN_BY_NAME = ".begun-by"


def note_begun(storage: Storage, job: str) -> None:
    """Notes that a job has started over there, once what was there before no longer counts.

    job: by a name that no other has; empty: nothing starts it again.
    """
    if job:
        storage.write(BEGUN_BY_NAME, job.encode())
    else:
        storage.remove(BEGUN_BY_NAME)


def is_begun_by(storage: Storage, job: str) -> bool:
    """Whether this job was the last to start over there."""
    try:
        return bool(job) and storage.read(BEGUN_BY_NAME) == job.encode()
    except FileNotFoundError:
        return False
