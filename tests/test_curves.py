"""A run's curves: from its journal, and the same from MLflow."""

from pathlib import Path

import pytest

from quickdraw_core.diagnosis.curves import Failure, ended_diverged, read_curves, read_failure
from quickdraw_core.errors import DivergedError, TrackingError
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.journal import (
    JOURNAL_NAME,
    Journal,
    append,
    points_record,
    status_record,
)
from quickdraw_core.tracking.runs import client, fetch_curves
from quickdraw_core.tracking.start_run import start_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that was killed within a line, and went on from an earlier step."""
    with Journal(tmp_path) as journal:
        for step in (10, 20, 30):
            journal.write(step, {"train/loss": 3 / step, "train/learning_rate": 0.1})
            journal.write(step, {"system/cpu": 50.0})
        journal.write(30, {"validation/loss": 0.5, "validation/map_at_3": 0.7})
    with (tmp_path / JOURNAL_NAME).open("a") as file:
        file.write('{"step": 40, "metrics": {"train/loss": 0.')
    append(tmp_path, points_record(30, {"train/loss": 99.0}), status_record("RUNNING"))
    append(tmp_path, points_record(40, {"train/loss": 0.05}))
    append(tmp_path, points_record(0, {"evaluation/map_at_3": 0.6}, again=True))
    return tmp_path


def test_the_curves_of_a_journal_hold_each_step_once(run_dir: Path) -> None:
    curves = read_curves(run_dir)
    assert sorted(curves) == [
        "train/learning_rate", "train/loss", "validation/loss", "validation/map_at_3",
    ]  # fmt: skip
    loss = curves["train/loss"]
    assert (loss.steps.dtype.name, loss.values.dtype.name) == ("int64", "float64")
    assert loss.steps.tolist() == [10, 20, 30, 40]
    assert loss.values.tolist() == [0.3, 0.15, 0.1, 0.05]
    assert len(loss) == 4
    assert curves["validation/map_at_3"].values.tolist() == [0.7]


def test_where_there_is_no_journal_there_are_no_curves(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}
    assert read_failure(tmp_path) is None


def test_the_reason_of_a_failure_stands_until_the_run_goes_on(tmp_path: Path) -> None:
    append(tmp_path, status_record("RUNNING"), status_record("FAILED", DivergedError("nan")))
    assert read_failure(tmp_path) == Failure("nan", "DivergedError")
    assert ended_diverged(tmp_path)
    append(tmp_path, status_record("RUNNING"))
    assert read_failure(tmp_path) is None
    append(tmp_path, status_record("FINISHED"))
    assert read_failure(tmp_path) is None


def test_a_failure_in_a_journal_without_the_error_s_class_is_still_known(tmp_path: Path) -> None:
    reason = "training failed: rank 0: the loss is nan at step 3: training diverged; lower it"
    append(tmp_path, status_record("FAILED") | {"reason": reason})
    assert ended_diverged(tmp_path)
    append(tmp_path, status_record("FAILED") | {"reason": "no space left on the device"})
    assert read_failure(tmp_path) == Failure("no space left on the device", "")
    assert not ended_diverged(tmp_path)


def test_mlflow_gives_the_curves_that_the_journal_has(run_dir: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    opened = start_run(run_dir, uri, "run", {}, {})
    assert deliver_rest(run_dir).problem is None
    fetched = fetch_curves(uri, opened.run_id)
    read = {k: (v.steps.tolist(), v.values.tolist()) for k, v in read_curves(run_dir).items()}
    assert fetched == read
    for there in (uri, "postgresql://nobody@127.0.0.1:9/x"):  # no such run; no driver, no server
        with pytest.raises(TrackingError, match="the curves of run 0123 could not be read"):
            fetch_curves(there, "0123")
    assert client(uri).get_run(opened.run_id).info.status == "RUNNING"
