"""Removes what a plan says goes: each thing in a way that a kill leaves nothing half there that
looks whole.

A run folder is renamed out of the way, then deleted; a bundle loses `bundle.json` first, without
which it is none; a file is there or not. What was used since the plan was made stays.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quickdraw_core.errors import BusyError, QuickdrawError
from quickdraw_core.retention.folders import at_work_in, last_used, weigh
from quickdraw_core.retention.plan import Kind, Thing, Verdict
from quickdraw_core.retention.runs import TRASH
from quickdraw_core.serving.bundle import INFO_NAME
from quickdraw_core.store.pack import remove_pack
from quickdraw_core.system.files import cause_of
from quickdraw_core.system.locks import FOLDER_LOCK, held, held_folder, lock_of_file
from quickdraw_core.tracking.deleted_runs import remove_for_good
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.run_folder import RunFolder

WORK = "cleaning"
MEANWHILE = "used meanwhile"
_SEPARATOR = " run "


class InUseError(Exception):
    """A thing turned out to be in use, and stays."""


@dataclass(frozen=True)
class Outcome:
    """What became of a thing. problem: why it is there though it was to go, in a line."""

    thing: Thing
    removed: bool
    reason: str
    problem: str = ""


def remove(verdict: Verdict) -> Outcome:
    """Removes a thing, unless it was used since the plan was made. Raises nothing of its own."""
    thing = verdict.thing
    try:
        _REMOVERS[thing.kind](thing)
    except FileNotFoundError:
        pass  # another command removed it, or it went with its run
    except (InUseError, BusyError) as error:
        return Outcome(thing, False, str(error))
    except (QuickdrawError, OSError) as error:
        cause = cause_of(error) if isinstance(error, OSError) and error.errno else str(error)
        return Outcome(thing, False, "could not be removed", f"{thing.name}: {cause}")
    return Outcome(thing, True, verdict.reason)


def _remove_run(thing: Thing) -> None:
    path = Path(thing.name)
    with held_folder(path, WORK):
        if not RunFolder.is_there(path):
            raise FileNotFoundError(path)
        _require_unused(thing, last_used(path))
        if holder := at_work_in(path, but=FOLDER_LOCK):
            raise InUseError(holder)
        trash = path.parent / TRASH
        trash.mkdir(exist_ok=True)
        aside = trash / f"{path.name}.{secrets.token_hex(4)}"
        path.rename(aside)
    _delete(aside)


def _remove_leftover(thing: Thing) -> None:
    _delete(Path(thing.name))


def _delete(aside: Path) -> None:
    shutil.rmtree(aside)
    with suppress(OSError):  # others are in it
        aside.parent.rmdir()


def _remove_checkpoint(thing: Thing) -> None:
    path, run = Path(thing.name), Path(thing.part_of)
    if not path.is_file():  # its run went
        return
    with held_folder(run, WORK):
        _require_unused(thing, last_used(run))
        if path in {find_checkpoint(run, name) for name in ("last", "best")}:
            raise InUseError(MEANWHILE)
        path.unlink()


def _remove_pack(thing: Thing) -> None:
    path = Path(thing.name)
    _require_unused(thing, weigh(path).written)
    if not remove_pack(path):
        raise InUseError("another command builds a pack beside it")


def _remove_bundle(thing: Thing) -> None:
    path = Path(thing.name)
    with held(lock_of_file(path.resolve()), thing.name, WORK):
        _require_unused(thing, weigh(path).written)
        (path / INFO_NAME).unlink(missing_ok=True)
        shutil.rmtree(path)


def _remove_file(thing: Thing) -> None:
    path = Path(thing.name)
    _require_unused(thing, weigh(path).written)
    path.unlink()


def _remove_deleted_run(thing: Thing) -> None:
    uri, _, run_id = thing.name.rpartition(_SEPARATOR)
    remove_for_good(uri, run_id)


def name_of_deleted(uri: str, run_id: str) -> str:
    """The name of a thing that is a run in MLflow."""
    return f"{uri}{_SEPARATOR}{run_id}"


def _require_unused(thing: Thing, used: float) -> None:
    """Raises `InUseError` if a thing was used since the plan was made."""
    if used > thing.used:
        raise InUseError(MEANWHILE)


_REMOVERS: Mapping[Kind, Callable[[Thing], None]] = {
    Kind.RUN: _remove_run,
    Kind.CHECKPOINT: _remove_checkpoint,
    Kind.PACK: _remove_pack,
    Kind.BUNDLE: _remove_bundle,
    Kind.INDEX: _remove_file,
    Kind.RESULT: _remove_file,
    Kind.DELETED_RUN: _remove_deleted_run,
    Kind.LEFTOVER: _remove_leftover,
}
