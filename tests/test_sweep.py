"""A small sweep from end to end by the command, failed on purpose, tried again, killed."""

import fcntl
import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import session
from command_line import command, quickdraw
from command_line import environment_of as cli_environment
from processes import rank_processes
from sweeps import TINY, open_sweep, table_file

import flows.sweep
from quickdraw_core import stage
from quickdraw_core.diagnosis.curves import read_curves, read_failure
from quickdraw_core.diagnosis.diagnosis import Kind
from quickdraw_core.errors import ConfigError, TrainingError
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.sweep import finish, rows, run
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.finish import finish_sweep
from quickdraw_core.sweep.plan import plan_sweep
from quickdraw_core.sweep.row_slots import make_slots
from quickdraw_core.sweep.rows import has_diverged, is_finished, nest, run_row
from quickdraw_core.sweep.run import PreparedSweep
from quickdraw_core.tracking.journal import append, follow, last_status, tags_record
from quickdraw_core.tracking.run_record import PARENT_TAG, RunRecord, tracked_run_id
from quickdraw_core.tracking.runs import client
from quickdraw_core.training.run_folder import RUN_NAME

# Failed on purpose, and tried again


def test_ctrl_c_waits_for_no_further_attempt_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(name: str, stopping: threading.Event) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        failed.set()
        raise TrainingError("a rank was lost")

    def interrupted(future: Any) -> None:
        failed.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "RETRY_SECONDS", 3_600)
    monkeypatch.setattr(run, "_end_of", interrupted)
    sweep: Any = SimpleNamespace(slots=make_slots(1, 1, (), 1), chosen=("a",))
    with pytest.raises(KeyboardInterrupt):
        run.in_threads(sweep, fail)


DIVERGING = """
[[rows]]
name = "Far too fast"
shown_as_failed = true
values = { optimizer = { name = "sgd", learning_rate = 1e9 }, schedule = "constant" }
"""


def test_a_row_that_diverges_on_purpose_is_done(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SweepConfig(table=table_file(tmp_path, TINY + DIVERGING), store=store.path,
                         per_class=20, run_dir=tmp_path / "s", tracking_uri="none")  # fmt: skip
    sweep = open_sweep(config)
    row = sweep.row("Far too fast")
    run_row(sweep, row.name, Opened())
    assert "training diverged" in str(read_failure(row.run_dir))
    assert has_diverged(row)
    assert not has_diverged(replace(row, row=row.row.updated({"shown_as_failed": False})))
    monkeypatch.setattr(rows, "train", lambda *_: pytest.fail("trained again"))
    run_row(sweep, row.name, Opened())

    result = finish_sweep(sweep, {})
    assert result.failed == ()
    found = next(found for found in result.rows if found.name == row.name)
    assert (found.diverged, found.done, found.measured) == (True, True, None)
    assert [finding.kind for finding in found.findings] == [Kind.DIVERGED]
    lines = (tmp_path / "s" / "table.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| Far too fast")]
    assert "| diverged |" in line
    assert any(line.startswith("- Far too fast: diverged: ") for line in lines)
    assert "Failed:" not in lines
    assert last_status(follow(sweep.path / "journal.jsonl", 0)[0]) == "FINISHED"


def test_numbers_are_written_down_where_a_figure_cannot_be(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    config = SweepConfig(table=table_file(tmp_path, TINY), store=store.path, per_class=20,
                         run_dir=tmp_path / "s", tracking_uri="none")  # fmt: skip
    monkeypatch.setattr(finish, "draw_figures", full)
    with pytest.raises(OSError, match="no space"):
        finish_sweep(open_sweep(config), {})
    assert "| Right |" in (tmp_path / "s" / "table.md").read_text()
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["table"] == "tiny"


@pytest.mark.parametrize(
    ("attempt", "age", "fresh"),
    [(1, -60, True), (2, 60, True), (2, -60, False), (2, None, False)],
    ids=["first", "ended before it began", "has begun", "nothing is there"],
)
def test_a_flow_that_prefect_tries_again_starts_over_what_was_there_before_its_first_attempt(
    attempt: int, age: int | None, fresh: bool, monkeypatch: pytest.MonkeyPatch,
    store: Store, tmp_path: Path,
) -> None:  # fmt: skip
    """age: of a row's run, seconds before the flow run was begun."""
    config = SweepConfig(table=table_file(tmp_path, TINY), store=store.path, per_class=20,
                         run_dir=tmp_path / "s", tracking_uri="none", fresh=True)  # fmt: skip
    row = plan_sweep(config, Opened()).rows[1].run_dir / RUN_NAME
    if age is not None:
        row.parent.mkdir(parents=True)
        row.touch()
    began = time.time() + (age or 0)
    monkeypatch.setattr(flows.sweep, "begun", lambda: began)
    # Prefect's own way to stand in for the facts of a run.
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(attempt))
    seen = []

    def run_of(sweep: PreparedSweep, *_: object) -> None:
        seen.append(sweep.config.fresh)
        raise OSError("gone")

    monkeypatch.setattr(PreparedSweep, "run", run_of)
    with pytest.raises(OSError, match="gone"):
        flows.sweep.sweep.fn(config)
    assert seen == [fresh]


# From end to end


class Swept:
    """A sweep of three rows, of which one could not begin at first; then the command again.

    first, second: exit status, standard output and error.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder, self.store = folder, store
        self.table = str(folder / "tiny.toml")
        if not (folder / "second.json").is_file():
            self._make()
        self.sweep = plan_sweep(self.config(), Opened())
        self.first, self.second = (
            SimpleNamespace(**json.loads((folder / name).read_text()))
            for name in ("first.json", "second.json")
        )
        self.journals_then = self.journals("then")

    def _make(self) -> None:
        table_file(self.folder, TINY)
        blocked = plan_sweep(self.config(), Opened()).row("Reciprocal").run_dir
        blocked.mkdir(parents=True)
        (blocked / "run.json").write_text("{torn")
        self._run("first.json")
        shutil.copytree(self.folder / "swept", self.folder / "then")
        (blocked / "run.json").unlink()
        self._run("second.json")

    def config(self) -> SweepConfig:
        uri = f"sqlite:///{self.folder}/mlflow.db"
        return SweepConfig(table=self.table, store=self.store.path, per_class=20,
                           run_dir=self.folder / "swept", tracking_uri=uri)  # fmt: skip

    def copy(self, folder: Path) -> "Swept":
        """The same with folders and a database of its own, for a test that changes them."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        for record in (folder / "swept").rglob("mlflow.json"):
            record.write_text(record.read_text().replace(f"{self.folder}/", f"{folder}/"))
        return Swept(self.store, folder)

    def _run(self, name: str) -> None:
        done = quickdraw(
            "sweep", self.table, "--store", self.store.path, "--per-class", 20,
            "--run-dir", "swept", "--parallel", 2, cwd=self.folder,
        )  # fmt: skip
        said = {"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        (self.folder / name).write_text(json.dumps(said))

    def journals(self, folder: str = "swept") -> dict[str, bytes]:
        paths = {
            row.name: self.folder / folder / row.run_dir.name / "journal.jsonl"
            for row in self.sweep.rows
        }
        return {name: path.read_bytes() for name, path in paths.items() if path.is_file()}


@pytest.fixture(scope="module")
def swept(store: Store, empty_database: Path) -> Swept:
    """Not to be changed."""

    def make(folder: Path) -> str:
        shutil.copy(empty_database, folder / "mlflow.db")
        Swept(store, folder)
        return str(folder)

    return Swept(store, Path(session.once("swept", make)))


def test_a_row_that_fails_stops_no_other_and_the_command_says_so(swept: Swept) -> None:
    assert swept.first.returncode == 1, swept.first.stderr
    assert "1 of 3 rows failed: 'Reciprocal'" in swept.first.stderr
    assert "the same command (without --fresh) trains only what is missing" in swept.first.stderr
    assert "run.json cannot be read" in swept.first.stdout
    assert "2 of 3 rows finished" in swept.first.stdout
    assert set(swept.journals_then) == {"Right", "No log"}


def test_rows_run_at_once(swept: Swept) -> None:
    spans = []
    for journal in swept.journals_then.values():
        records = [json.loads(line) for line in journal.splitlines()]
        times = {record["status"]: record["time_ms"] for record in records if "status" in record}
        spans.append((times["RUNNING"], times["FINISHED"]))
    assert max(begun for begun, _ in spans) < min(ended for _, ended in spans)


def test_the_same_command_trains_only_what_is_missing(swept: Swept) -> None:
    assert swept.second.returncode == 0, swept.second.stderr
    assert "3 of 3 rows finished" in swept.second.stdout
    journals = swept.journals()
    for name, before in swept.journals_then.items():
        assert journals[name] == before
    for journal in journals.values():
        assert journal.count(b'"RUNNING"') == 1


def test_the_table_has_what_was_measured_beside_what_was_reported(swept: Swept) -> None:
    found = json.loads((swept.folder / "swept" / "sweep.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    for name, row in rows.items():
        judged = json.loads(
            (swept.sweep.row(name).run_dir / "evaluation" / "evaluation.json").read_text()
        )
        assert row["scores"]["top_3"] == judged["top_3"]
        assert row["scores"]["top_3"]["n"] == 80
        assert row["seconds"] > 0
        assert row["images_per_second"] > 0
    assert rows["Right"]["reported"] == 0.9
    assert [(p["reported_higher"], p["reported_lower"]) for p in found["order"]] == [
        ("Right", "Reciprocal")
    ]
    markdown = (swept.folder / "swept" / "table.md").read_text()
    assert "| Right | net | cross_entropy | adamw | onecycle | 90 % |" in markdown
    assert "shown on purpose" in markdown
    kinds = {name: [found["kind"] for found in row["findings"]] for name, row in rows.items()}
    assert "log forgotten before NLL" in kinds["No log"]
    assert "log forgotten before NLL" not in kinds["Right"]
    assert "What the curves say:" in markdown
    assert "- No log: log forgotten before NLL: the train loss is negative from step" in markdown
    for name in ("loss-by-network", "accuracy-by-loss", "failed-training"):
        assert f"figures/{name}.png" in markdown
        assert (swept.folder / "swept" / "figures" / f"{name}.svg").is_file()


def test_mlflow_has_a_parent_and_a_run_a_row_beneath_it(swept: Swept) -> None:
    mlflow = client(f"sqlite:///{swept.folder}/mlflow.db")
    parent = mlflow.get_run(tracked_run_id(swept.folder / "swept"))
    assert parent.info.status == "FINISHED"
    assert parent.data.params["table"] == "tiny"
    assert json.loads(parent.data.params["rows.reciprocal"])["loss"] == "softmax_reciprocal"
    runs = mlflow.search_runs([parent.info.experiment_id])
    assert len(runs) == 4
    rows = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id]
    assert {run.data.tags["quickdraw.sweep_row"] for run in rows} == {
        "Right", "Reciprocal", "No log",
    }  # fmt: skip
    assert all("test/top_3" in run.data.metrics for run in rows)
    files = {file.path for file in mlflow.list_artifacts(parent.info.run_id, "sweep")}
    assert {"sweep/table.md", "sweep/sweep.json", "sweep/rows.json", "sweep/figures"} == files


def test_a_run_that_began_without_the_parent_is_put_beneath_it_later(
    swept: Swept, tmp_path: Path
) -> None:
    sweep = open_sweep(swept.copy(tmp_path).config())
    row = sweep.rows[0]
    record = RunRecord.read(row.run_dir)
    assert record is not None
    replace(record, tags={k: v for k, v in record.tags.items() if k != PARENT_TAG}).write(
        row.run_dir
    )
    mlflow = client(sweep.uri)
    mlflow.delete_tag(record.run_id, PARENT_TAG)
    nest(sweep, row)
    nest(sweep, row)
    tags = mlflow.get_run(record.run_id).data.tags
    assert tags[PARENT_TAG] == tracked_run_id(sweep.path)
    assert (row.run_dir / "journal.jsonl").read_bytes().count(PARENT_TAG.encode()) == 1


def test_another_number_of_held_out_drawings_asks_for_another_judgement(swept: Swept) -> None:
    row = swept.sweep.rows[0]
    assert is_finished(swept.sweep, row)
    assert not is_finished(replace(swept.sweep, per_class=10), row)
    assert not is_finished(replace(swept.sweep, store_fingerprint="another"), row)


def test_a_row_is_finished_only_when_its_run_was_told(swept: Swept, tmp_path: Path) -> None:
    sweep = open_sweep(swept.copy(tmp_path).config())
    row = sweep.rows[0]
    assert is_finished(sweep, row)
    journal = row.run_dir / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"test/' not in line))
    assert not is_finished(sweep, row)
    assert is_finished(replace(sweep, uri="none"), row)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them is half the time of finishing a sweep."""
    monkeypatch.setattr(finish, "draw_figures", lambda *_: ())


@pytest.mark.usefixtures("without_figures")
def test_a_damaged_row_costs_that_row_alone(swept: Swept, tmp_path: Path) -> None:
    sweep = open_sweep(swept.copy(tmp_path).config())
    (sweep.row("Right").run_dir / "mlflow.json").write_text("{torn")
    result = finish_sweep(sweep, {})
    assert [row.mlflow_run_id != "" for row in result.rows] == [False, True, True]
    assert (sweep.path / "table.md").is_file()


@pytest.mark.usefixtures("without_figures")
def test_what_mlflow_lacks_of_a_row_is_told(swept: Swept, tmp_path: Path) -> None:
    sweep = open_sweep(swept.copy(tmp_path).config())
    run_dir = sweep.row("Reciprocal").run_dir
    append(run_dir, tags_record({"quickdraw.seen": "yes"}))
    with (run_dir / "journal.jsonl.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a process that sends them would hold it
        problem = finish_sweep(sweep, {}).tracking_problem
    assert problem == "row 'Reciprocal': another process is sending this run's numbers"
    assert finish_sweep(sweep, {}).tracking_problem is None


def test_what_does_not_fit_the_store_is_refused_before_anything_is_trained(
    store: Store, tmp_path: Path
) -> None:
    large = 'loss = "nll_without_log", global_batch_size = 4096, micro_batch_size = 4096'
    table = table_file(tmp_path, TINY.replace('loss = "nll_without_log"', large))
    config = SweepConfig(
        table=table, store=store.path, per_class=20, run_dir=tmp_path / "s", tracking_uri="none"
    )
    with pytest.raises(ConfigError, match=r"row 'No log': \d+ drawings to train on do not fill"):
        open_sweep(config)
    assert not (tmp_path / "s").exists()


@pytest.mark.soak
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_a_killed_sweep_goes_on_from_the_rows_checkpoint(
    ending: signal.Signals, store: Store, tmp_path: Path
) -> None:
    text = TINY.split("[[rows]]")[0].replace("epochs = 2", "epochs = 15")
    table = table_file(tmp_path, text + '[[rows]]\nname = "Long"\n')
    arguments = ["sweep", table, "--store", store.path, "--per-class", 20, "--run-dir", "swept"]
    log = tmp_path / "out.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command(), *map(str, arguments)], cwd=tmp_path, env=cli_environment(tmp_path),
            stdout=out, stderr=subprocess.STDOUT,
            # A shell starts what is in its background deaf to Ctrl-C; children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            assert _wait_for(lambda: any(tmp_path.glob("swept/*/checkpoints/last")), process)
            process.send_signal(ending)
            assert process.wait(300) == (130 if ending == signal.SIGINT else -ending)
        finally:
            process.kill()
            process.wait()
    (run_dir,) = (path.parent for path in tmp_path.glob("swept/*/run.json"))
    if ending == signal.SIGINT:
        assert "stopped; the same command goes on from here" in log.read_text()
        assert b'"KILLED"' in (run_dir / "journal.jsonl").read_bytes()
    deadline = time.monotonic() + 60  # who is killed takes its children along
    while rank_processes(run_dir) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not rank_processes(run_dir)
    done = quickdraw(*arguments, "--set", "checkpoints.keep=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 rows finished" in done.stdout
    records = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    assert [r["status"] for r in records if "status" in r][-2:] == ["RUNNING", "FINISHED"]
    steps = [r["step"] for r in records if "train/loss" in r.get("metrics", {})]
    assert steps == sorted(set(steps))


def _wait_for(there: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if there():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.soak
@pytest.mark.timeout(2_700)
def test_the_small_form_of_the_report_runs_in_half_an_hour(
    shared_data: Path, tmp_path: Path
) -> None:
    ingested = quickdraw(
        "ingest", shared_data / "train_simplified", "--classes-file",
        shared_data / "rich_classes.txt", "--store", "store", cwd=tmp_path,
    )  # fmt: skip
    assert ingested.returncode == 0, ingested.stderr
    done = quickdraw("sweep", "report-small", "--run-dir", "swept", cwd=tmp_path, timeout=1_800)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "swept" / "sweep.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert all(row["scores"]["top_3"]["n"] == 3_500 for row in rows.values())
    chance = 3 / 35
    for name in ("ResNet-18 Adam MultiStepLR", "ResNet-34 SGD MultiStepLR"):
        assert rows[name]["scores"]["top_3"]["low"] > 5 * chance
    (failed,) = [row for row in rows.values() if row["shown_as_failed"]]
    loss = read_curves(tmp_path / "swept" / failed["run"])["train/loss"].values
    assert -1 < loss[-1] < loss[0] < 0
    assert len(list((tmp_path / "swept" / "figures").iterdir())) == 6
