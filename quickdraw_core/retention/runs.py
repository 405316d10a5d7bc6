"""The run folders that are there: what each weighs, and what needs it."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from quickdraw_core.errors import QuickdrawError
from quickdraw_core.retention.folders import at_work_in, last_used, weigh
from quickdraw_core.retention.plan import Kind, Thing
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import is_delivered
from quickdraw_core.tracking.journal import JOURNAL_NAME, follow, last_status
from quickdraw_core.tracking.registered_runs import RegisteredRun
from quickdraw_core.tracking.run_record import PARENT_TAG, RUN_RECORD_NAME, RunRecord
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.run_folder import RUN_NAME, RunFolder

TRASH = ".removed"
"""Where run folders are renamed to before they are deleted: no folder of runs has runs there."""


@dataclass(frozen=True)
class FoundRun:
    """A run folder. stores: where its data are, if that can be read; stays_whole: why all of its
    checkpoints are needed; empty: they are not.
    """

    path: Path
    size_bytes: int
    used: float
    uri: str
    run_id: str
    stores: tuple[str, ...]
    at_work: bool
    stays_whole: str
    sweep: Path | None
    spare: tuple[Path, ...] = ()
    refers_to: frozenset[str] = field(default=frozenset())


def find_runs(runs: Path) -> list[FoundRun]:
    """The runs in a folder, and the rows of its sweeps."""
    runs = runs.resolve()  # others may know it by its own name
    single = sorted(path.parent for path in runs.glob(f"*/{RUN_NAME}"))
    rows = sorted(path.parent for path in runs.glob(f"*/*/{RUN_NAME}"))
    found = [_read(path, None) for path in single]
    parents = {path: _is_sweep(path) for path in {row.parent for row in rows}}
    return found + [_read(row, row.parent) for row in rows if parents[row.parent]]


def _is_sweep(path: Path) -> bool:
    is_tracked = any((path / name).is_file() for name in (RUN_RECORD_NAME, JOURNAL_NAME))
    return path.name != TRASH and is_tracked and not (path / RUN_NAME).exists()


def _read(path: Path, sweep: Path | None) -> FoundRun:
    """path: of the run; absolute from here on."""
    path = path.absolute()
    at_work = at_work_in(path) or (at_work_in(sweep) if sweep is not None else None)
    whole, uri, run_id = at_work or "", NO_TRACKING, ""
    stores: tuple[str, ...] = ()
    if path.is_symlink():
        whole = whole or "a symlink; remove it by hand"
    refers: frozenset[str] = frozenset()
    spare: tuple[Path, ...] = ()
    try:
        run, record = RunFolder.read(path), RunRecord.read(path)
        stores = _store_names(run)
        if record is not None:
            uri, run_id = record.uri, record.run_id
        refers = _named_by(run, record)
        if not whole and not is_delivered(path):
            whole = "MLflow does not have all of it yet"
        if last_status(follow(path / JOURNAL_NAME, 0)[0]) == "FINISHED":
            spare = _spare(path)
    except (QuickdrawError, OSError) as error:
        whole = whole or f"cannot be read: {error}"
    size = weigh(path).size_bytes - sum(weigh(checkpoint).size_bytes for checkpoint in spare)
    return FoundRun(
        *(path, size, last_used(path), uri, run_id, stores, at_work is not None, whole),
        sweep=sweep,
        spare=spare,
        refers_to=refers,
    )


def _store_names(run: RunFolder) -> tuple[str, ...]:
    stores = (run.config.store, run.config.select.also)
    return tuple(str(store.absolute()) for store in stores if store is not None)


def _named_by(run: RunFolder, record: RunRecord | None) -> frozenset[str]:
    """The models that a training began from or learns from, and the MLflow run of its sweep."""
    parent = record.tags.get(PARENT_TAG, "") if record is not None else ""
    distill = run.config.distill
    models = [run.config.model.pretrained or "", *(map(str, distill.teachers) if distill else ())]
    names = {parent, *resolved(models)}
    return frozenset(names - {"", *resolved([""])})


def resolved(names: Iterable[str]) -> Iterator[str]:
    """Names as they are, and as paths from the working folder, with and without symlinks."""
    for name in names:
        yield name
        if "\0" not in name:
            yield os.path.abspath(name)  # noqa: PTH100 — of any text, also of no file's name
            with suppress(OSError, ValueError):
                yield os.path.realpath(name)


def _spare(path: Path) -> tuple[Path, ...]:
    """The checkpoints of a finished run that are neither its last nor its best."""
    kept = {find_checkpoint(path, name) for name in ("last", "best")}
    if None in kept:
        return ()
    return tuple(file for file in sorted(path.glob("checkpoints/step-*.pt")) if file not in kept)


def things_of(
    found: Iterable[FoundRun],
    registered: Mapping[tuple[str, str], Collection[RegisteredRun]],
    unknown: Mapping[str, str],
) -> Iterator[Thing]:
    """The runs and their spare checkpoints, with what needs them.

    registered: MLflow address and run id → the versions of registered models that come from it.
    unknown: addresses that could not be asked → why.
    """
    for run in found:
        name = str(run.path)
        row = f"a row of {run.sweep.name}" if run.sweep is not None else ""
        versions = registered.get((run.uri, run.run_id), ())
        alias = next((version.described for version in versions if version.aliases), "")
        unasked = f"perhaps a champion: {unknown[run.uri]}" if run.uri in unknown else ""
        yield Thing(
            *(Kind.RUN, name, run.size_bytes, run.used),
            needed=run.stays_whole or alias or unasked or row,
            # Its own MLflow run: one that was deleted there can be restored as long as it is here.
            refers_to=run.refers_to | ({run.run_id} - {""}),
            known_as=frozenset({run.run_id, *(v.reference for v in versions)} - {""}),
            counts=run.sweep is None,
        )
        for spare in run.spare:
            size, _ = weigh(spare)
            needed = run.stays_whole
            yield Thing(Kind.CHECKPOINT, str(spare), size, run.used, needed, part_of=name)
