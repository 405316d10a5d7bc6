"""`quickdraw clean`: what goes, what never goes, and that a kill leaves nothing half removed."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from command_line import quickdraw
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import BusyError, ConfigError, WriteError
from quickdraw_core.retention import clean as cleaning
from quickdraw_core.retention import remove as removing
from quickdraw_core.retention.clean import CleanResult, Needs, clean, require_cleaned
from quickdraw_core.retention.config import CleanConfig
from quickdraw_core.retention.plan import RECENT_SECONDS, Kind, Rules, Thing, Verdict, plan
from quickdraw_core.retention.runs import TRASH
from quickdraw_core.retention.summary import clean_markdown, clean_table
from quickdraw_core.store.pack import is_packed, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.system.durations import in_words, seconds_of
from quickdraw_core.system.locks import held_folder
from quickdraw_core.tracking.run_record import PARENT_TAG, RunRecord, tracked_run_id
from quickdraw_core.tracking.runs import client
from quickdraw_core.training.checkpoint import find_checkpoint
from quickdraw_core.training.run_folder import RunFolder, newest_run

DAY = 86_400.0
NOW = 1_000 * DAY


# --- The plan: a function of what is there ------------------------------------------------------


def thing(name: str, days: float = 100, kind: Kind = Kind.RUN, **more: object) -> Thing:
    return Thing(kind, f"/runs/{name}", 10, NOW - days * DAY, **more)  # type: ignore[arg-type]


def gone(*things: Thing, keep: int = 0, days: float = 30, named: tuple[str, ...] = ()) -> set[str]:
    verdicts = plan(things, Rules(keep, days * DAY), NOW, frozenset(named))
    assert all(verdict.reason for verdict in verdicts)
    return {verdict.thing.name.removeprefix("/runs/") for verdict in verdicts if verdict.goes}


def test_what_is_old_and_not_among_the_newest_goes() -> None:
    things = [thing("a", 10), thing("b", 40), thing("c", 50), thing("d", 60)]
    assert gone(*things) == {"b", "c", "d"}
    assert gone(*things, keep=3) == {"d"}
    assert gone(*things, keep=4) == set()
    assert gone(*things, days=0) == {"a", "b", "c", "d"}


def test_a_row_of_a_sweep_is_none_of_the_newest_and_other_kinds_are_not_counted() -> None:
    row = thing("sweep/row", 1, needed="a row of sweep", counts=False)
    pack = thing("pack", 50, Kind.PACK)
    assert gone(row, pack, thing("a", 40), thing("b", 50), keep=1) == {"b", "pack"}


def test_what_is_needed_stays_and_what_is_useless_goes_unless_it_is_of_this_hour() -> None:
    assert gone(thing("a", needed="champion")) == set()
    assert gone(thing("a", 1, Kind.PACK, useless="outdated")) == {"a"}
    assert gone(thing("a", 0.01, Kind.PACK, useless="outdated"), days=0) == set()
    assert gone(thing("a", RECENT_SECONDS / DAY - 0.001), days=0) == set()


def test_what_something_that_stays_refers_to_stays() -> None:
    first, second = thing("first"), thing("second", refers_to=frozenset({"/runs/first/x.pt"}))
    young = thing("young", 1, refers_to=frozenset({"id-of-second"}))
    second = replace(second, known_as=frozenset({"id-of-second"}))
    assert gone(first, second) == {"first", "second"}
    assert gone(first, second, young) == set()
    assert gone(first, named=("/runs/first/checkpoints/step-1.pt",)) == set()
    assert gone(first, named=("/runs/firs", "/runs")) == {"first"}


def test_a_spare_checkpoint_goes_when_its_run_would_have_gone() -> None:
    def spare(days: float, **more: object) -> Thing:
        return thing("a/1.pt", days, Kind.CHECKPOINT, part_of="/runs/a", **more)

    assert gone(thing("a", 100), spare(100)) == {"a", "a/1.pt"}
    assert gone(thing("a", 100, needed="champion"), spare(100)) == {"a/1.pt"}
    assert gone(thing("a", 100, needed="at work"), spare(100, needed="at work")) == set()
    assert gone(thing("a", 1), spare(1)) == set()
    assert gone(thing("a", 100), spare(100), keep=1) == set()
    assert gone(thing("a", 100, needed="x"), spare(100), named=("/runs/a/1.pt",)) == set()


names = st.sampled_from("abcdef")
any_thing = st.builds(
    lambda name, days, needed, refers: thing(
        name, days, needed=needed, refers_to=frozenset(f"/runs/{other}" for other in refers)
    ),
    names,
    st.floats(0, 100),
    st.sampled_from(["", "champion"]),
    st.frozensets(names),
)


@given(st.lists(any_thing, unique_by=lambda t: t.name), st.integers(0, 7), st.floats(0, 90))
def test_nothing_that_stays_needs_what_goes(things: list[Thing], keep: int, days: float) -> None:
    verdicts = plan(things, Rules(keep, days * DAY), NOW)
    assert sorted(verdict.thing.name for verdict in verdicts) == sorted(t.name for t in things)
    went = {verdict.thing.name for verdict in verdicts if verdict.goes}
    for verdict in verdicts:
        age = (NOW - verdict.thing.used) / DAY
        if verdict.goes:
            assert not verdict.thing.needed
            assert age >= days
            assert sum(t.used > verdict.thing.used for t in things) >= min(keep, len(things) - 1)
        else:
            assert not verdict.thing.refers_to & went


def test_lengths_of_time() -> None:
    assert seconds_of("30d") == 30 * DAY
    assert seconds_of("1d12h") == 1.5 * DAY
    assert [in_words(value) for value in (0, 59, 60, 7_200, 3 * DAY)] == [
        *("0 s", "59 s", "1 min", "2 h", "3 d")
    ]
    for wrong in ("", "30", "d", "-1d", "1 d", "1d x", "1y", "99999999w"):
        with pytest.raises(ConfigError, match="older_than"):
            CleanConfig.parse({"older_than": wrong})


# --- Real runs, a real MLflow -------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder with runs, a store and an MLflow of their own, all unused for 100 days."""

    folder: Path
    uri: str

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def run(self, name: str) -> Path:
        return self.runs / name

    def age(self, path: Path, days: float = 100) -> None:
        """Makes all in a folder that old."""
        moment = time.time() - days * DAY
        for each in (path, *path.rglob("*")):
            os.utime(each, (moment, moment), follow_symlinks=False)

    def clean(self, needs: Needs | None = None, **options: object) -> CleanResult:
        values = {"runs": self.runs, "stores": [self.folder / "store"], "tracking_uri": self.uri}
        values |= {"keep": 0, "results": self.folder / "results"}
        return clean(CleanConfig.parse(values | options), needs)

    def reason(self, result: CleanResult, path: Path | str) -> str:
        (outcome,) = (o for o in result.outcomes if o.thing.name == str(path))
        return outcome.reason


def name_files_in(database: Path, old: Path, new: Path) -> None:
    """Has a copied database name the files beside it; MLflow itself knows no copies."""
    with closing(sqlite3.connect(database)) as opened:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            replaced = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            opened.execute(replaced, (str(old), str(new)))
        opened.commit()


@pytest.fixture
def place(trained: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Runs `a` and `b`, copies of one; `b` has a key and an MLflow run of its own."""
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    untouched = trained.parent / "untouched"
    shutil.copy(untouched / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(untouched / "mlartifacts", tmp_path / "mlartifacts")
    shutil.copytree(store.path, tmp_path / "store")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    name_files_in(tmp_path / "mlflow.db", trained.parent, tmp_path)
    place = Place(tmp_path, uri)
    for name in ("a", "b"):
        ignored = shutil.ignore_patterns(".lock*")
        shutil.copytree(untouched / trained.name, place.run(name), ignore=ignored)
        run = RunFolder.read(place.run(name))
        replace(run, config=run.config.updated({"store": tmp_path / "store"})).write()
        record = RunRecord.read(place.run(name))
        assert record is not None
        replace(record, uri=uri).write(place.run(name))
    record = RunRecord.read(place.run("b"))
    assert record is not None
    other = client(uri).create_run("1", tags={}).info.run_id
    replace(record, key="b" * 32, run_id=other).write(place.run("b"))
    for path in (place.runs, tmp_path / "store"):
        place.age(path)
    return place


def test_old_runs_go_and_a_dry_run_changes_nothing(place: Place) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.folder.rglob("*")}
    planned = place.clean(dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in place.folder.rglob("*")} == before
    size = sum(path.stat().st_size for path in place.runs.rglob("*") if path.is_file())
    removed = place.clean()
    assert [(o.thing.name, o.removed) for o in removed.outcomes] == [
        (o.thing.name, o.removed) for o in planned.outcomes
    ]
    in_runs = [o.thing for o in removed.outcomes if o.thing.kind in (Kind.RUN, Kind.CHECKPOINT)]
    assert sum(one.size_bytes for one in in_runs) == size
    assert list(place.runs.iterdir()) == []
    assert not removed.problems


def test_the_newest_and_the_young_stay_whole(place: Place) -> None:
    place.age(place.run("b"), 2)
    result = place.clean()
    assert [path.name for path in place.runs.iterdir()] == ["b"]
    assert place.reason(result, place.run("b")) == "used within 30 d"
    assert len(list(place.run("b").glob("checkpoints/*.pt"))) > 2
    assert place.reason(place.clean(keep=1, older_than="0d"), place.run("b")) == "the newest run"
    assert place.run("b").is_dir()


def test_a_champion_stays_with_its_last_and_best_checkpoint(place: Place) -> None:
    mlflow = client(place.uri)
    mlflow.create_registered_model("doodles")
    run_id = tracked_run_id(place.run("a"))
    mlflow.create_model_version("doodles", f"runs:/{run_id}/checkpoints/best.pt", run_id)
    assert "a" in {p.name for p in place.runs.iterdir()}
    mlflow.set_registered_model_alias("doodles", "champion", "1")
    pointed = {find_checkpoint(place.run("a"), name) for name in ("last", "best")}
    result = place.clean()
    assert [path.name for path in place.runs.iterdir()] == ["a"]
    assert place.reason(result, place.run("a")) == "champion of doodles (models:/doodles/1)"
    assert set(place.run("a").glob("checkpoints/*.pt")) == pointed
    mlflow.delete_registered_model_alias("doodles", "champion")
    place.clean()
    assert not place.run("a").exists()


def test_runs_stay_if_mlflow_cannot_say_which_is_the_champion(place: Place) -> None:
    record = RunRecord.read(place.run("a"))
    assert record is not None
    replace(record, uri="http://127.0.0.1:1").write(place.run("a"))
    place.age(place.run("a"))
    result = place.clean()
    assert [path.name for path in place.runs.iterdir()] == ["a"]
    assert place.reason(result, place.run("a")).startswith("perhaps a champion: MLflow at http:")
    with pytest.raises(WriteError, match=r"not all could be cleaned: MLflow at http://127\.0\.0"):
        require_cleaned(result)


def test_runs_stay_if_the_database_that_they_name_is_gone(place: Place) -> None:
    (place.folder / "mlflow.db").unlink()
    result = place.clean()
    assert sorted(path.name for path in place.runs.iterdir()) == ["a", "b"]
    reason = place.reason(result, place.run("a"))
    assert reason.startswith(f"perhaps a champion: there is no database {place.folder}/mlflow.db")
    with pytest.raises(WriteError, match="bring it back"):
        require_cleaned(result)
    shutil.rmtree(place.runs)
    assert not place.clean().problems  # nothing was tracked there yet


def test_a_run_whose_checkpoint_is_read_is_in_use(place: Place) -> None:
    path = find_checkpoint(place.run("a"), "best")
    assert path is not None
    os.utime(path, (time.time() - DAY, path.stat().st_mtime))
    result = place.clean(dry_run=True)
    assert place.reason(result, place.run("a")) == "used within 30 d"
    assert place.reason(place.clean(), place.run("a")) == "used within 30 d"
    assert [path.name for path in place.runs.iterdir()] == ["a"]


def test_a_run_stays_that_is_named_by_another_path_to_the_same_folder(place: Place) -> None:
    place.runs.rename(place.folder / "disk")
    place.runs.symlink_to(place.folder / "disk")
    named = (f"{place.runs}/a", f"{place.folder}/disk/b/checkpoints/best")
    result = place.clean(Needs(frozenset(named)))
    assert sorted(path.name for path in place.runs.iterdir()) == ["a", "b"]
    assert "refers to it" in place.reason(result, place.folder / "disk" / "a")


def test_a_sweep_stays_with_its_rows(place: Place) -> None:
    sweep = place.runs / "sweep-x"
    place.run("a").rename(place.runs / "row")
    sweep.mkdir()
    (place.runs / "row").rename(sweep / "row-1")
    shutil.copy(sweep / "row-1" / "mlflow.json", sweep)
    (sweep / "table.md").write_text("the table")
    place.age(sweep)
    result = place.clean()
    assert place.reason(result, sweep / "row-1") == "a row of sweep-x"
    assert find_checkpoint(sweep / "row-1", "last") is not None
    assert (sweep / "table.md").exists()
    assert [path.name for path in place.runs.iterdir()] == ["sweep-x"]


def test_what_is_at_work_stays_whole_with_the_pack_of_its_store(place: Place) -> None:
    for lock in (".lock", ".lock-host1", "evaluation/.lock"):
        folder = (place.run("a") / lock).parent
        with held_folder(folder, "training", Path(lock).name):
            place.age(place.run("a"))
            result = place.clean()
            spared = len(list(place.run("a").glob("checkpoints/*.pt")))
        assert place.reason(result, place.run("a")).startswith("at work: training, process ")
        assert spared > 2
        (pack,) = (o for o in result.outcomes if o.thing.kind is Kind.PACK)
        assert pack.reason == "a is at work on its store"
    place.age(place.runs)
    assert {o.thing.kind for o in place.clean().outcomes if o.removed} >= {Kind.RUN, Kind.PACK}


def test_numbers_that_mlflow_has_not_got_keep_their_run(place: Place) -> None:
    (place.run("a") / "journal.jsonl.sent").unlink()
    place.age(place.run("a"))
    reason = place.reason(place.clean(), place.run("a"))
    assert reason == "MLflow does not have all of it yet"


def test_what_a_run_of_prefect_names_stays_by_path_id_or_reference(place: Place) -> None:
    mlflow, run_id = client(place.uri), tracked_run_id(place.run("a"))
    mlflow.create_registered_model("doodles")
    mlflow.create_model_version("doodles", "file:///x", run_id)
    for name in ("runs/a", str(place.run("a") / "checkpoints" / "best"), run_id):
        assert not _goes(place, Needs(frozenset({name})))
    assert not _goes(place, Needs(frozenset({"models:/doodles/1"})))
    assert _goes(place, Needs(frozenset({"runs", "store", "a", "", "\0", "models:/doodles/2"})))


def _goes(place: Place, needs: Needs) -> bool:
    result = place.clean(needs, dry_run=True)
    return {o.thing.name: o.removed for o in result.outcomes}[str(place.run("a"))]


def test_what_a_run_that_stays_began_from_stays(place: Place) -> None:
    run = RunFolder.read(place.run("b"))
    first = place.run("a") / "checkpoints" / "step-00000003.pt"
    replace(run, config=run.config.updated({"model": {"pretrained": str(first)}})).write()
    place.age(place.run("b"), 1)
    result = place.clean()
    assert place.reason(result, place.run("a")) == f"{place.run('b')} refers to it"


def test_packs_indices_bundles_and_results(place: Place) -> None:
    pack, outdated = next(iter((place.folder / "store" / "pack").iterdir())), "0" * 16
    shutil.copytree(pack, pack.with_name(outdated))
    (pack.parent / ".half.tmp").mkdir()
    for name, days in (("young", 1), ("old", 90)):
        for folder in ("rows", f"bundles/{name}"):
            (place.folder / "cache" / folder).mkdir(parents=True, exist_ok=True)
        files = [place.folder / "cache" / "rows" / f"{name}.json"]
        files += [place.folder / "cache" / "bundles" / name / "bundle.json"]
        for file in files:
            file.write_text("{}")
            os.utime(file, (time.time() - days * DAY,) * 2)
    results = place.folder / "results"
    results.mkdir()
    keys = [f"train-{digit * 32}" for digit in "01"]
    for key in (*keys, "0" * 32, "another-programs"):
        (results / key).write_text("{}")
    place.age(results)
    place.age(pack.parent)
    place.age(place.run("a"), 3)  # its store's pack was in use then
    place.clean(Needs(results=frozenset({keys[0]})))
    assert [path.name for path in pack.parent.iterdir()] == [pack.name]
    assert is_packed(pack)
    assert [path.name for path in (place.folder / "cache" / "rows").iterdir()] == ["young.json"]
    assert [path.name for path in (place.folder / "cache" / "bundles").iterdir()] == ["young"]
    assert {p.name for p in results.iterdir()} == {keys[0], "0" * 32, "another-programs"}
    place.age(place.run("a"))
    place.age(pack.parent)
    place.clean()
    assert not any(pack.parent.iterdir())
    assert len(open_pack(Store.open(place.folder / "store"))) > 0


def test_runs_that_were_deleted_in_mlflow_go_for_good_with_their_files(place: Place) -> None:
    mlflow = client(place.uri)
    run_id, other = tracked_run_id(place.run("a")), tracked_run_id(place.run("b"))
    parent = mlflow.create_run("1").info.run_id
    child = mlflow.create_run("1", tags={PARENT_TAG: parent}).info.run_id
    files = place.folder / "mlartifacts"
    assert any(run_id in str(path) for path in files.rglob("*"))
    for one in (run_id, other, child):
        mlflow.delete_run(one)
    mlflow.create_registered_model("doodles")
    mlflow.create_model_version("doodles", "file:///x", other)

    stays = place.clean(older_than="1d", keep=2)  # deleted a moment ago
    assert {o.removed for o in stays.outcomes if o.thing.kind is Kind.DELETED_RUN} == {False}
    with _later(2 * DAY):
        result = place.clean(older_than="1d", dry_run=True)
        reasons = {
            o.thing.name[-32:]: o for o in result.outcomes if o.thing.kind is Kind.DELETED_RUN
        }
        assert reasons[run_id].removed
        assert reasons[run_id].thing.size_bytes > 10_000
        assert reasons[other].reason == "models:/doodles/1 comes from it"
        assert reasons[child].reason == f"beneath run {parent}, which is not deleted"
        assert place.clean(older_than="1d").problems == ()
    left = {run.info.run_id for run in mlflow.search_runs(["1"], run_view_type=3)}
    assert left == {other, child, parent}
    assert not any(run_id in str(path) for path in files.rglob("*"))
    assert not any(files.rglob("bundle.json"))  # its logged model


def test_files_that_a_copied_database_names_elsewhere_stay(place: Place, trained: Path) -> None:
    run_id = tracked_run_id(place.run("a"))
    client(place.uri).delete_run(run_id)
    name_files_in(place.folder / "mlflow.db", place.folder, trained.parent)
    shutil.rmtree(place.run("a"))
    with _later(DAY):
        result = place.clean(older_than="0d")
    (deleted,) = (o for o in result.outcomes if o.thing.kind is Kind.DELETED_RUN)
    assert deleted.reason.startswith("its files are not beside the database: ")
    assert any((trained.parent / "mlartifacts").rglob("best.pt"))


@contextmanager
def _later(seconds: float) -> Iterator[None]:
    """A block in which the plan is made so much later."""
    now = time.time() + seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "_now", lambda: now)
        yield


def test_the_deleted_run_of_a_sweep_stays_as_long_as_its_rows_do(place: Place) -> None:
    mlflow = client(place.uri)
    parent = mlflow.create_run("1").info.run_id
    record = RunRecord.read(place.run("a"))
    assert record is not None
    replace(record, tags=record.tags | {PARENT_TAG: parent}).write(place.run("a"))
    mlflow.delete_run(parent)
    with _later(DAY):
        result = place.clean(keep=2, older_than="0d")
    (deleted,) = (o for o in result.outcomes if o.thing.kind is Kind.DELETED_RUN)
    assert deleted.reason == f"{place.run('a')} refers to it"


def test_a_deleted_run_stays_as_long_as_its_folder_does(place: Place) -> None:
    run_id = tracked_run_id(place.run("a"))
    client(place.uri).delete_run(run_id)
    with _later(DAY):
        result = place.clean(keep=2, older_than="0d")
    (deleted,) = (o for o in result.outcomes if o.thing.kind is Kind.DELETED_RUN)
    assert deleted.reason == f"{place.run('a')} refers to it"


# --- Meanwhile, killed, refused -----------------------------------------------------------------


def test_what_was_used_since_the_plan_was_made_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used_by_now(verdict: Verdict) -> removing.Outcome:
        path = Path(verdict.thing.name)
        if verdict.goes and path.is_dir():
            (path / "touched").write_text("")
        return removing.remove(verdict)

    monkeypatch.setattr(cleaning, "remove", used_by_now)
    result = place.clean()
    assert {o.reason for o in result.outcomes if o.thing.kind is Kind.RUN} == {"used meanwhile"}
    assert {path.name for path in place.runs.iterdir()} == {"a", "b"}


def test_a_run_that_begins_meanwhile_stays(place: Place) -> None:
    (of_a,) = (
        o for o in place.clean(dry_run=True).outcomes if o.thing.name == str(place.run("a"))
    )
    with held_folder(place.run("a"), "training"):
        outcome = removing.remove(Verdict(of_a.thing, True, "old"))
    assert not outcome.removed
    assert "another command is at work on" in outcome.reason
    assert not outcome.problem
    assert RunFolder.is_there(place.run("a"))


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from quickdraw_core.retention import remove
from quickdraw_core.retention.clean import clean
from quickdraw_core.retention.config import CleanConfig

def killed(path, *arguments, **options):
    os.unlink(next(path.rglob("*.pt"), None) or next(path.rglob("*.*")))
    os.kill(os.getpid(), signal.SIGKILL)

remove.shutil.rmtree = killed
os.environ["QUICKDRAW_CACHE"] = sys.argv[2]
clean(CleanConfig.parse({"runs": sys.argv[1], "keep": 0, "tracking_uri": "none", "stores": []}))
"""


def test_a_kill_in_the_middle_leaves_no_run_that_looks_whole(place: Place) -> None:
    for name in ("a", "b"):
        record = RunRecord.read(place.run(name))
        assert record is not None
        replace(record, uri="none").write(place.run(name))
    place.age(place.runs)
    cache = place.folder / "cache"
    killed = subprocess.run([sys.executable, "-c", KILLED, place.runs, cache], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (path.name for path in place.runs.iterdir() if not path.name.startswith("."))
    assert len(list(place.run(left).glob("checkpoints/*.pt"))) > 2
    assert newest_run(place.runs) == place.run(left)
    (half,) = (place.runs / TRASH).iterdir()
    result = place.clean(older_than="1000d")  # the next time it goes, whatever is asked
    assert place.reason(result, half) == "its removal was stopped"
    assert [path.name for path in place.runs.iterdir()] == [left]


def test_what_cannot_be_removed_is_a_problem_and_the_rest_goes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    results = place.folder / "results"
    results.mkdir()
    (results / f"train-{'0' * 32}").write_text("{}")
    place.age(results)
    monkeypatch.setattr(removing, "_delete", refused)
    result = place.clean()
    assert len(result.problems) == 2
    assert "permission denied" in result.problems[0]
    assert not any(results.iterdir())
    with pytest.raises(WriteError, match="not all could be cleaned"):
        require_cleaned(result)


def test_a_second_clean_and_the_folder_of_a_run_are_refused(place: Place) -> None:
    with held_folder(place.runs, "cleaning", ".clean.lock"), pytest.raises(BusyError):
        place.clean()
    with pytest.raises(ConfigError, match="is a run; give the folder that holds runs"):
        place.clean(runs=place.run("a"))


def test_the_table_says_what_each_thing_weighs_and_why(place: Place) -> None:
    place.age(place.run("b"), 1)
    result = place.clean(dry_run=True)
    heads, rows = clean_table(result)
    assert heads == ["what", "where", "unused for", "size", "", "why"]
    runs = {row[1]: row for row in rows if row[0] == "run"}
    assert runs["runs/a"][2] == "100 d"
    assert runs["runs/a"][4:] == ["would go", "not used for 30 d"]
    assert runs["runs/b"][4:] == ["kept", "used within 30 d"]
    assert any(row[0].endswith(("checkpoint", "checkpoints")) for row in rows)
    assert "| would go | not used for 30 d |" in clean_markdown(result)


def test_the_command_in_an_empty_folder_and_with_typos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    done = CliRunner().invoke(app, ["clean"])
    assert done.exit_code == 0, done.exception
    assert "0 bytes in 0 things" in done.stdout
    assert list(tmp_path.iterdir()) == []
    for words in ("--runs nowhere", "--store nowhere", "--older-than 30", "--keep -1"):
        error = CliRunner().invoke(app, ["clean", *words.split()]).exception
        assert isinstance(error, ConfigError), words


def test_the_command_says_it_directly(place: Place) -> None:
    done = quickdraw("clean", "--keep", 0, "--dry-run", cwd=place.folder)
    assert done.returncode == 0, done.stderr
    assert "runs/a" in done.stdout
    assert "nothing was removed" in done.stdout
    assert place.run("a").is_dir()
