"""A folder that was moved, or copied to another machine, with its run and its mlflow.db."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from quickdraw_core.errors import TrackingError, UnreachableError
from quickdraw_core.inference.references import best_of_run
from quickdraw_core.tracking.delivery import send_records
from quickdraw_core.tracking.journal import file_record
from quickdraw_core.tracking.run_record import RUN_RECORD_NAME, RunRecord


@pytest.fixture
def moved(trained: Path, tmp_path: Path) -> Path:
    """A copy of a run and its database that stood in `tmp_path/old` when they were made."""
    folder, old = tmp_path / "new", tmp_path / "old"
    shutil.copytree(trained.parent / "untouched", folder)
    record = folder / trained.name / RUN_RECORD_NAME
    facts = json.loads(record.read_text()) | {"uri": f"sqlite:///{old}/mlflow.db"}
    record.write_text(json.dumps(facts))
    here = (str(trained.parent), str(old))
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)", here)
        database.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", here
        )
    database.close()
    return folder / trained.name


def test_a_moved_run_is_found_in_the_database_beside_it(moved: Path, tmp_path: Path) -> None:
    record = RunRecord.read(moved)
    assert record is not None
    assert record.uri == f"sqlite:///{moved.parent}/mlflow.db"
    best = best_of_run(record.uri, record.run_id)
    assert best.mlflow_run_id == record.run_id
    with pytest.raises(TrackingError, match="they were moved"):
        send_records(record.uri, record.run_id, [file_record(moved / "run.json", "run.json")])
    assert not (tmp_path / "old").exists()


def test_files_that_were_left_behind_are_named(moved: Path, tmp_path: Path) -> None:
    record = RunRecord.read(moved)
    assert record is not None
    shutil.rmtree(moved.parent / "mlartifacts")
    with pytest.raises(UnreachableError, match=r"files are not at \S*old/mlartifacts \(moved\?\)"):
        best_of_run(record.uri, record.run_id)
    assert not (tmp_path / "old").exists()
