"""Models' predictions of the held-out drawings, by one process, several, or other hosts'.

The drawings are cut into fixed batches, which are dealt out to the processes. So a drawing is
computed beside the same others, however many processes there are. They exchange nothing, and
each writes its predictions to a file.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from quickdraw_core.drawing import Int64Array
from quickdraw_core.errors import EvaluationError
from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.partial import pack_and_rows
from quickdraw_core.inference.pieces import (
    Computing,
    PortableModels,
    held_out_pieces,
    rank_piece,
)
from quickdraw_core.inference.predictions import Predictions, TimedPredictions, joined, ranked
from quickdraw_core.loading.loader import drawn_rows
from quickdraw_core.progress import progress
from quickdraw_core.store.pack import Pack
from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.parent_death import die_with_parent
from quickdraw_core.system.threads import share_cores

Columns = dict[str, npt.NDArray[Any]]

_POLL_SECONDS = 0.1
DONE_NAME = "done.npy"
"""Drawings that each process has predicted, int64 [ranks], in the job's folder."""


def predict_rows(
    models: Ensemble,
    pack: Pack,
    rows: Int64Array,
    batch_size: int = 256,
    advance: Callable[[int], None] | None = None,
) -> TimedPredictions:
    """Predicts drawings of the pack. rows: int64 [N]. advance: called with drawings done."""
    columns: list[Columns] = []
    begun, waited = time.perf_counter(), 0.0
    with ExitStack() as stack:
        streams = []
        for member in models.members:
            drawn = drawn_rows(pack, rows, member.image, batch_size, member.feed)
            streams.append(stack.enter_context(closing(drawn)))
        for _ in range(0, len(rows), batch_size):
            waiting_since = time.perf_counter()
            batches = [next(stream) for stream in streams]
            waited += time.perf_counter() - waiting_since
            images = [batch.images_nchw for batch in batches]
            columns.append(ranked(models.log_probabilities(images), batches[0].labels_n))
            if advance is not None:
                advance(len(batches[0].labels_n))
    predictions = _predictions(models, pack, rows, columns)
    return TimedPredictions(predictions, time.perf_counter() - begun, waited)


def _predictions(
    models: Ensemble, pack: Pack, rows: Int64Array, columns: Sequence[Columns]
) -> Predictions:
    """columns: of `ranked`, of the batches of the rows."""
    # So that there are columns if there are no rows.
    none = ranked(torch.zeros(0, len(models.label_map)), torch.zeros(0, dtype=torch.int64))
    return Predictions(
        models.label_map,
        key_ids=pack.key_ids[rows],
        labels=pack.labels[rows].astype(np.int64),
        recognized=pack.recognized[rows],
        **{name: np.concatenate([part[name] for part in (none, *columns)]) for name in none},
    )


def _by_pieces(
    computing: Computing,
    models: Ensemble,
    pack: Pack,
    rows: Int64Array,
    batch_size: int,
    advance: Callable[[int], None],
) -> TimedPredictions:
    """As `predict_rows`, by other processes."""
    columns: list[Columns] = []
    begun, busy, drawing = time.perf_counter(), 0.0, 0.0
    pieces = held_out_pieces(pack, rows, batch_size)
    with closing(computing.results(PortableModels(models), rank_piece, pieces)) as results:
        for piece in results:
            columns += piece.values
            busy, drawing = busy + piece.seconds, drawing + piece.drawing_seconds
            advance(sum(len(part["ranks"]) for part in piece.values))
    seconds = time.perf_counter() - begun
    waited = seconds * drawing / busy if busy else 0.0
    return TimedPredictions(_predictions(models, pack, rows, columns), seconds, waited)


def predict_held_out(
    config: HeldOutConfig,
    models: Ensemble,
    choices: Sequence[HeldOut],
    stopping: threading.Event | None = None,
    computing: Computing | None = None,
) -> list[TimedPredictions]:
    """Predictions of each choice of held-out drawings, in the order of its rows.

    stopping: once it is set, this ends as by Ctrl-C. computing: who does it instead of processes
    of this host. Raises `EvaluationError` if a process fails, `ClusterError`.
    """
    size, counts = config.batch_size, [len(held_out.rows) for held_out in choices]
    ranks = min(config.ranks or max(1, torch.cuda.device_count()), -(-max(counts) // size))
    with progress("evaluate", sum(counts), "drawings") as bar:

        def advance(drawings: int) -> None:
            if stopping is not None and stopping.is_set():
                raise KeyboardInterrupt
            bar.advance(drawings)

        if computing is not None:
            return [
                _by_pieces(computing, models, *pack_and_rows(held_out), size, advance)
                for held_out in choices
            ]
        if ranks == 1:
            return [
                predict_rows(models, *pack_and_rows(held_out), size, advance)
                for held_out in choices
            ]
        with tempfile.TemporaryDirectory() as folder:
            return _by_ranks(Path(folder), ranks, config, models, choices, advance)


def _by_ranks(
    folder: Path,
    ranks: int,
    config: HeldOutConfig,
    models: Ensemble,
    choices: Sequence[HeldOut],
    advance: Callable[[int], None],
) -> list[TimedPredictions]:
    """As `predict_rows` of each choice, by several processes of this host. folder: for the job."""
    job = {
        "store": str(config.store.absolute()),
        "models": [member.reference for member in models.members],
        "digest": models.digest,
        "average": models.members[0].average,
        "tta": config.tta,
        "precision": config.precision,
        "tracking_uri": config.tracking_uri,
        "ranks": ranks,
        "batch_size": config.batch_size,
        "choices": len(choices),
    }
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    for number, held_out in enumerate(choices):
        columns: dict[str, Any] = {"rows": held_out.rows}
        if held_out.strokes is not None:
            columns["strokes"] = held_out.strokes
        np.savez(choice_path(folder, number), **columns)
    np.save(folder / DONE_NAME, np.zeros(ranks, np.int64))
    _run(folder, ranks, advance)
    return [
        _joined_parts(folder, number, ranks, len(held_out.rows), config.batch_size, models)
        for number, held_out in enumerate(choices)
    ]


def _joined_parts(
    folder: Path, number: int, ranks: int, count: int, batch_size: int, models: Ensemble
) -> TimedPredictions:
    """What the processes wrote of a choice of `count` drawings."""
    paths = [part_path(folder, number, rank) for rank in range(ranks)]
    parts = [TimedPredictions.of(*Predictions.read(path, models.label_map)) for path in paths]
    order = np.argsort(
        np.concatenate([share_of(count, rank, ranks, batch_size) for rank in range(ranks)])
    )
    return TimedPredictions(
        joined([part.predictions for part in parts]).where(order),
        max(part.seconds for part in parts),
        sum(part.waited_seconds for part in parts) / ranks,
    )


def share_of(count: int, rank: int, ranks: int, batch_size: int) -> Int64Array:
    """Indices of those of `count` drawings that a process predicts: whole batches, dealt out in
    turn; ascending.
    """
    batches = np.arange(count) // batch_size
    share: Int64Array = np.flatnonzero(batches % ranks == rank)
    return share


def choice_path(folder: Path, number: int) -> Path:
    """Rows and strokes of a choice of drawings (`HeldOut`) in the job's folder."""
    return folder / f"choice-{number}.npz"


def part_path(folder: Path, number: int, rank: int) -> Path:
    """A process's predictions of a choice of drawings in the job's folder."""
    return folder / f"part-{number}-{rank}.parquet"


def _run(folder: Path, ranks: int, advance: Callable[[int], None]) -> None:
    """Starts the processes and waits for their end; if one fails, the others are ended."""
    environment = child_environment()
    share_cores(environment, ranks)
    program = [sys.executable, "-m", "quickdraw_core.inference.predict_rank", str(folder)]
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for rank in range(ranks):
            log = stack.enter_context((folder / f"log-{rank}.txt").open("wb"))
            process = subprocess.Popen(
                [*program, str(rank)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
            stack.callback(_end, process)
            processes.append(process)
        counts, shown = np.load(folder / DONE_NAME, mmap_mode="r"), 0
        while True:
            codes = [process.poll() for process in processes]
            done = int(counts.sum())
            advance(done - shown)
            shown = done
            if any(codes):
                rank = next(rank for rank, code in enumerate(codes) if code)
                lines = (folder / f"log-{rank}.txt").read_text("utf-8", "replace").split("\n")
                words = [line for line in lines if line.strip()][-1:] or ["it was killed"]
                raise EvaluationError(
                    f"process {rank} of {ranks} ended with code {codes[rank]}: {words[0]}"
                )
            if all(code == 0 for code in codes):
                return
            time.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
