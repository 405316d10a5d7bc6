"""Predictions in pieces that others compute: those of one process, whoever computes them."""

import os
import pickle
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from dask_cluster import dask_cluster

from quickdraw_core.challenge.submission import write_submission
from quickdraw_core.challenge.test_file import PIECE_ROWS
from quickdraw_core.cluster import computing, workers
from quickdraw_core.cluster.config import ClusterConfig
from quickdraw_core.errors import CheckpointError, ClusterError, ConfigError, EvaluationError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.partial import PARTIAL_NAME, partial_drawings
from quickdraw_core.inference.pieces import (
    PIECE_BATCHES,
    PortableModels,
    held_out_pieces,
    rank_piece,
)
from quickdraw_core.inference.predict import predict_held_out, predict_rows
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store
from quickdraw_core.system.threads import NUM_THREADS, threads_each

COLUMNS = [field.name for field in fields(Predictions) if field.name != "label_map"]


def equal(one: Predictions, other: Predictions) -> bool:
    """Whether two predictions are the same, bit for bit."""
    columns = ((getattr(one, name), getattr(other, name)) for name in COLUMNS)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in columns)


class Elsewhere:
    """Computes pieces from what a process on another host would get, the last ones first."""

    def results(
        self, shared: Any, function: Callable[[Any, Any], Any], pieces: Iterable[Any]
    ) -> Generator[Any]:
        sent = pickle.dumps(shared)
        given = [pickle.dumps(piece) for piece in pieces]
        computed = [function(pickle.loads(sent), pickle.loads(piece)) for piece in given[::-1]]
        yield from computed[::-1]


@pytest.fixture(scope="module")
def models(trained: Path) -> Ensemble:
    return load_models([str(trained)])


@pytest.mark.parametrize(
    "how", [{}, {"average": 2, "tta": "flip"}], ids=["best", "average, mirrored"]
)
@pytest.mark.parametrize("batch_size", [7, 256])
def test_pieces_give_the_predictions_of_one_process(
    trained: Path, pack: Pack, how: dict[str, Any], batch_size: int
) -> None:
    both = [*load_models([str(trained)], **how).members, *load_models([str(trained)]).members]
    models = Ensemble(tuple(both))
    rows = pack.test_rows(20)
    config = HeldOutConfig(batch_size=batch_size)
    (found,) = predict_held_out(config, models, [HeldOut(pack, rows, {})], computing=Elsewhere())
    assert equal(found.predictions, predict_rows(models, pack, rows, batch_size).predictions)
    assert 0 < found.waited_seconds < found.seconds


def test_pieces_give_the_predictions_of_partial_drawings(
    models: Ensemble, trained: Path, pack: Pack
) -> None:
    mirrored = load_models([str(trained)], tta="flip")
    both = Ensemble((*models.members, *mirrored.members))
    asked = partial_drawings(HeldOut(pack, pack.test_rows(20), {}), 5).held_out
    choices = [asked, asked._replace(strokes=None)]
    config = HeldOutConfig(batch_size=7)
    here, whole = (found.predictions for found in predict_held_out(config, both, choices))
    (there,) = predict_held_out(config, both, [asked], computing=Elsewhere())
    assert equal(there.predictions, here)
    assert np.array_equal(here.key_ids, pack.key_ids[asked.rows])
    assert np.array_equal(here.labels, whole.labels)
    assert not np.array_equal(here.probabilities, whole.probabilities)


def test_pieces_hold_all_drawings_and_do_not_depend_on_who_computes(pack: Pack) -> None:
    rows = pack.test_rows(20)
    cut = list(held_out_pieces(pack, rows, 3))
    sizes = [len(batch) for piece in cut for batch in piece.batches]
    assert sizes == [3] * (len(rows) // 3) + [len(rows) % 3] * (len(rows) % 3 > 0)
    assert all(len(piece.batches) == PIECE_BATCHES for piece in cut[:-1])
    labels = np.concatenate([label for piece in cut for label in piece.labels])
    assert np.array_equal(labels, pack.labels[rows])
    assert not list(held_out_pieces(pack, rows[:0], 3))


def test_models_travel_without_what_only_training_needs(models: Ensemble) -> None:
    portable = PortableModels(models)
    whole = {k: v for k, v in vars(models.members[0].checkpoint).items() if k != "config"}
    assert len(pickle.dumps(portable)) < 0.6 * len(pickle.dumps(whole))
    arrived, changed = (pickle.loads(pickle.dumps(portable)) for _ in range(2))
    assert arrived.models.digest == models.digest
    assert arrived.models is arrived.models
    next(iter(changed._members[0]["checkpoint"].weights.values())).add_(1)
    with pytest.raises(EvaluationError, match="arrived at a worker with other weights"):
        _ = changed.models


@pytest.fixture(scope="module")
def test_csv(csv_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of four words, of which a whole batch and some others cannot be read."""
    header, *lines = (csv_folder / "sun.csv").read_text().splitlines()
    for word in ("star", "envelope", "ice cream"):
        lines += (csv_folder / f"{word}.csv").read_text().splitlines()[1:]
    broken = [line.replace("[[[", "[[[999, ") for line in lines[:PIECE_ROWS]]
    path = tmp_path_factory.mktemp("test") / "test.csv"
    path.write_text("\n".join([header, *broken, *lines, *broken[:3], *lines[:50]]) + "\n")
    return path


@pytest.mark.parametrize("balanced", [False, True])
def test_a_submission_is_the_same_whoever_computes(
    models: Ensemble, test_csv: Path, tmp_path: Path, balanced: bool
) -> None:
    written = []
    for name, who in {"here": None, "elsewhere": Elsewhere()}.items():
        folder = tmp_path / name
        folder.mkdir()
        files = folder / "s.csv", folder / "p.parquet"
        result = write_submission(models, test_csv, files[0], balanced, files[1], who)
        assert 0 < result.waited_seconds < result.seconds
        assert result.unreadable == PIECE_ROWS + 3
        written.append([path.read_bytes() for path in (*files, folder / "s.unreadable.csv")])
    assert written[0] == written[1]


# Dask


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two workers in this process."""
    from distributed import LocalCluster

    quiet = dict.fromkeys(("dashboard_address", "worker_dashboard_address"), "127.0.0.1:0")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", **quiet
    ) as cluster:
        yield cluster.scheduler_address


def config_of(trained: Path, store: Store, folder: Path, **options: Any) -> EvaluateConfig:
    values = {"model": trained, "store": store.path, "per_class": 20, "report_dir": folder}
    values |= {"model": str(trained), "tracking_uri": "none", "batch_size": 8}
    return EvaluateConfig.parse(values | options)


def test_an_evaluation_by_dask_is_that_of_one_process(
    trained: Path, store: Store, scheduler: str, models: Ensemble, tmp_path: Path
) -> None:
    here = evaluate(config_of(trained, store, tmp_path / "here"))
    there = evaluate(config_of(trained, store, tmp_path / "there", dask=scheduler))
    assert there.scores == here.scores
    for file in ("predictions.parquet", PARTIAL_NAME):
        paths = [tmp_path / name / file for name in ("here", "there")]
        assert equal(*(Predictions.read(path, models.label_map)[0] for path in paths))
    # Who computed decides nothing, so the report need not be made again.
    assert evaluate(config_of(trained, store, tmp_path / "there")).skipped


def refuse(shared: str, piece: int) -> int:
    if piece == 5:
        raise CheckpointError(f"{shared} {piece}")
    return piece


def test_an_error_of_the_work_comes_back_and_results_are_in_order(scheduler: str) -> None:
    with computing.computing(ClusterConfig(dask=scheduler), "") as who:
        assert who is not None
        assert list(who.results("piece", refuse, (n for n in range(40) if n != 5)))[:6] == [
            0, 1, 2, 3, 4, 6,
        ]  # fmt: skip
        found = who.results("piece", refuse, range(8))
        assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(CheckpointError, match=r"^piece 5$"):
            next(found)


def fail(kind: type[Exception], piece: int) -> int:
    raise kind(f"no memory for {piece}\nand more")


@pytest.mark.parametrize("kind", [RuntimeError, TimeoutError, MemoryError])
def test_an_error_of_a_library_there_is_said_in_a_line(
    kind: type[Exception], scheduler: str
) -> None:
    with computing.computing(ClusterConfig(dask=scheduler), "") as who:
        assert who is not None
        with pytest.raises(ClusterError, match=r"^a Dask worker failed: no memory for 3$"):
            list(who.results(kind, fail, [3]))


def threads_there(shared: str, piece: int) -> tuple[int, bool]:
    return torch.get_num_threads(), NUM_THREADS in os.environ


def test_a_piece_has_the_cores_of_its_worker_and_leaves_the_environment_alone(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NUM_THREADS, raising=False)
    before = torch.get_num_threads()
    with computing.computing(ClusterConfig(dask=scheduler), "") as who:
        assert who is not None
        assert list(who.results("", threads_there, [0])) == [(threads_each(1), False)]
        assert torch.get_num_threads() == before
        monkeypatch.setenv(NUM_THREADS, "1")  # the user's decision
        assert list(who.results("", threads_there, [0])) == [(before, True)]
    nanny: Any = SimpleNamespace(nanny="tcp://127.0.0.1:1")
    assert NUM_THREADS not in computing.own_environment(nanny)  # Dask's


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as found, computing.computing(ClusterConfig(**config), ""):
        pass
    return str(found.value)


def test_a_cluster_that_cannot_serve_is_refused_before_work(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "tcp://127.0.0.1:1"
    assert f"no Dask scheduler answers at {nobody}" in refused({"dask": nobody})
    monkeypatch.setattr(computing, "_START_SECONDS", 0)
    lacking = refused({"dask": scheduler, "require": "GPU=1"})
    assert lacking == (
        f"the Dask cluster {scheduler} has no worker with GPU=1; start some by "
        f"`dask worker {scheduler} --resources GPU=1`"
    )
    monkeypatch.setattr(workers, "package_version", lambda: "another")
    assert "has another version of this package" in refused({"dask": scheduler})


def test_processes_here_and_workers_there_are_not_asked_for_together() -> None:
    with pytest.raises(ConfigError, match=r"ranks=2 is for processes of this host"):
        EvaluateConfig.parse({"model": "x", "dask": "tcp://a:1", "ranks": 2})


@pytest.mark.services  # 20 s: a scheduler and two workers as processes
def test_a_worker_that_is_killed_costs_its_pieces_alone(
    models: Ensemble, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.concatenate([pack.test_rows(20)] * 40)
    monkeypatch.setattr(computing, "_START_SECONDS", 200)
    with (
        dask_cluster(tmp_path, 2) as (address, (_, first, *_)),
        computing.computing(ClusterConfig(dask=address), "") as who,
    ):
        assert who is not None
        cut = held_out_pieces(pack, rows, 64)
        results = who.results(PortableModels(models), rank_piece, cut)
        computed = [next(results)]
        os.kill(first, signal.SIGKILL)
        computed += results
    ranks = np.concatenate([part["ranks"] for piece in computed for part in piece.values])
    expected = predict_rows(models, pack, rows, 64).predictions
    assert np.array_equal(ranks, expected.ranks)
