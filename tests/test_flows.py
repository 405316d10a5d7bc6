"""The policy around the stages; that flows run is tested with the command line."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from openings import counted_openings
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed
from prefect.testing.utilities import prefect_test_harness

from flows.ingest import ingest, ingest_stage
from flows.reruns.again import folder_of, run_again, started_here
from flows.reruns.find import find_run
from flows.stages import worth_retrying
from flows.train import train, train_stage
from quickdraw_core.errors import (
    CheckpointError,
    ClusterError,
    ConfigError,
    DivergedError,
    InputError,
    TrainingError,
    UnreachableError,
)
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import INGEST_STAGE, PreparedIngest
from quickdraw_core.ingest.make_store import MadeStore
from quickdraw_core.ingest.result import IngestResult
from quickdraw_core.ingest.target import open_target
from quickdraw_core.launching.estimate import Estimate
from quickdraw_core.launching.probe import Probe
from quickdraw_core.launching.result import TrainResult
from quickdraw_core.launching.train import PreparedTraining
from quickdraw_core.recipes import RecipedConfig
from quickdraw_core.stage import perform
from quickdraw_core.store.manifest import MANIFEST_NAME
from quickdraw_core.store.store import Store
from quickdraw_core.training.config import TrainConfig


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """Prefect's own, of this file alone."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.parametrize(
    "error", [InputError("x"), ConfigError("x"), CheckpointError("x"), DivergedError("x")]
)
def test_what_would_come_to_the_same_end_is_not_tried_again(error: Exception) -> None:
    assert not worth_retrying(None, None, Failed(data=error))


@pytest.mark.parametrize(
    "error", [TrainingError("x"), UnreachableError("x"), OSError("x"), RuntimeError("x")]
)
def test_what_broke_is_tried_again(error: Exception) -> None:
    assert worth_retrying(None, None, Failed(data=error))


def test_what_went_well_is_not() -> None:
    assert not worth_retrying(None, None, Completed(data=1))


Attempts = Callable[[int], list[bool]]


@pytest.fixture
def training_attempts(
    server: None, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Attempts:
    """Runs the flow over a run folder of an hour ago, with `fresh`, until its fourth attempt, the
    second one of the flow. Says which attempts began anew; those before the given one fail
    before they write anything.
    """
    written = tmp_path / "run.json"
    written.touch()
    _make_older(written)
    seen: list[bool] = []

    def run(first_to_write: int) -> list[bool]:
        def attempt(config: TrainConfig) -> TrainResult:
            seen.append(config.fresh)
            if len(seen) >= first_to_write:
                written.touch()
            if len(seen) < 4:
                raise TrainingError("a rank was lost")
            return TrainResult(tmp_path, "", "none", tmp_path, {}, 1, 0, False, (), None)

        monkeypatch.setattr(PreparedTraining, "run", lambda self: attempt(self.config))
        monkeypatch.setattr(train_stage.task, "retry_delay_seconds", 0)
        train.with_options(retries=1)(TrainConfig(store=store.path, run_dir=tmp_path, fresh=True))
        return seen

    return run


@pytest.fixture
def ingest_attempts(
    csv_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[IngestConfig], object], int, int], list[bool]]:
    """Has a call ingest over a store of an hour ago, with `fresh`. Says which of its attempts
    began anew; those before the given one fail before they write anything, the others later, all
    but the last one.
    """
    shutil.copytree(store.path, tmp_path / "store", ignore=shutil.ignore_patterns("pack"))
    _make_older(tmp_path / "store" / MANIFEST_NAME)

    def run(call: Callable[[IngestConfig], object], last: int, first_to_write: int) -> list[bool]:
        seen: list[bool] = []

        def attempt(config: IngestConfig, *_inputs: object) -> MadeStore:
            seen.append(config.fresh)
            time.sleep(0.01)  # files have a clock of their own, some milliseconds behind
            if len(seen) >= first_to_write:
                open_target(config)
            if len(seen) < last:
                raise ClusterError("the scheduler was lost")
            return MadeStore(store.manifest, {}, 0, None)

        monkeypatch.setattr("quickdraw_core.ingest.make_store.make_store", attempt)
        monkeypatch.setattr("quickdraw_core.stage.RETRY_SECONDS", 0)
        monkeypatch.setattr(ingest_stage.task, "retry_delay_seconds", 0)
        call(IngestConfig(source=(str(csv_folder),), store=tmp_path / "store", fresh=True))
        return seen

    return run


def _make_older(path: Path) -> None:
    hour_ago = path.stat().st_mtime - 3_600
    os.utime(path, (hour_ago, hour_ago))


FRESH_UNTIL_WRITTEN = [(1, [True, False, False, False]), (3, [True, True, True, False])]
"""The first attempt that begins anew, and whether each attempt was told to."""


@pytest.mark.parametrize(("first_to_write", "told"), FRESH_UNTIL_WRITTEN)
def test_a_training_is_fresh_until_an_attempt_has_begun_anew(
    training_attempts: Attempts, first_to_write: int, told: list[bool]
) -> None:
    assert training_attempts(first_to_write) == told


@pytest.mark.parametrize(("first_to_write", "told"), FRESH_UNTIL_WRITTEN)
def test_an_ingest_is_fresh_until_an_attempt_has_begun_anew(
    server: None, ingest_attempts: Callable[..., list[bool]], first_to_write: int, told: list[bool]
) -> None:
    assert ingest_attempts(ingest.with_options(retries=1), 4, first_to_write) == told


@pytest.mark.parametrize(("first_to_write", "told"), [(1, [True, False]), (2, [True, True])])
def test_without_prefect_too(
    ingest_attempts: Callable[..., list[bool]], first_to_write: int, told: list[bool]
) -> None:
    def call(config: IngestConfig) -> IngestResult:
        return perform(INGEST_STAGE, config)

    assert ingest_attempts(call, 2, first_to_write) == told


def test_a_flow_opens_everything_once(server: None, csv_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(csv_folder, tmp_path / "csv")
    config = IngestConfig.parse({"source": source, "store": tmp_path / "store", "workers": 1})
    assert not ingest(config).skipped
    with counted_openings() as counts:
        assert ingest(config).skipped
    once = [source, *source.glob("*.csv"), tmp_path / "store" / MANIFEST_NAME]
    once += (tmp_path / "store").glob("drawings/*/*")
    assert {path: counts[str(path)] for path in once} == dict.fromkeys(once, 1)


def test_what_was_made_without_prefect_is_skipped_and_said(
    server: None, csv_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = IngestConfig(source=(str(csv_folder),), store=tmp_path / "store", workers=1)
    assert not perform(INGEST_STAGE, config).skipped
    with caplog.at_level("INFO"):
        assert ingest(config).skipped
    assert "ingest: nothing to do" in caplog.text


def test_what_an_earlier_version_kept_is_not_used(
    server: None, csv_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IngestConfig(source=(str(csv_folder),), store=tmp_path / "store", workers=1)
    run = PreparedIngest.run
    with monkeypatch.context() as earlier:
        earlier.setattr(PreparedIngest, "run", lambda self: run(self) and "a result of its own")
        assert ingest(config) == "a result of its own"
    again = ingest(config)
    assert again == perform(INGEST_STAGE, config)
    assert again.skipped


def test_a_run_is_taken_up_in_the_folder_that_it_was_started_in(
    server: None, csv_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = IngestConfig.parse({"source": "csv", "store": "store", "workers": 1})
    with pytest.raises(InputError, match="no folder or file"), started_here():
        ingest(config)
    (tmp_path / "here" / "csv").symlink_to(csv_folder)
    monkeypatch.chdir(tmp_path / "there")
    run = find_run("ingest csv")
    assert folder_of(run) == tmp_path / "here"
    run_again(run)
    assert len(Store.open(tmp_path / "here" / "store").label_map) == 4
    assert Path.cwd() == tmp_path / "there"
    assert not list(Path.cwd().iterdir())
    (tmp_path / "here").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"was started in \S*here, which is not here"):
        run_again(run)


def latest_page(key: str) -> str:
    """The page of a key on the server that flows report to."""
    with urlopen(f"{get_current_settings().api.url}/artifacts/{key}/latest", timeout=60) as answer:
        return str(json.load(answer)["data"])


def test_a_training_s_plan_is_a_page_in_prefect(
    server: None, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Probe((0.1, 0.12) * 10, 5.0, 0.001, 12_300_000, 0.5, 612.0, 9.0)
    monkeypatch.setattr("quickdraw_core.launching.train.probe", lambda *_: measured)
    values = {"store": store.path, "run_dir": tmp_path / "run", "tracking": {"uri": "none"}}
    estimate = train(RecipedConfig.model_validate(values), plan=True)
    assert isinstance(estimate, Estimate)
    assert not (tmp_path / "run").exists()
    assert "| memory | 612.0 MB a rank at most" in latest_page("training-plan")

    done = TrainResult(tmp_path, "", "none", tmp_path, {"map_at_3": 1}, 1, 0, False, (), None)
    monkeypatch.setattr(PreparedTraining, "run", lambda self: done)
    train(RecipedConfig.model_validate(values))
    assert "quickdraw train --plan" in latest_page("training-plan")
