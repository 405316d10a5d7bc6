"""Sweeps: the table, the slots, the order, and a small one from end to end by the command."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import session
from command_line import command, quickdraw
from command_line import environment_of as cli_environment
from hypothesis import given
from hypothesis import strategies as st
from processes import rank_processes

import flows.sweep
from quickdraw_core import stage
from quickdraw_core.commands import sweeps
from quickdraw_core.diagnosis.curves import Curve, read_curves, read_failure
from quickdraw_core.diagnosis.diagnosis import Kind
from quickdraw_core.errors import ConfigError, TrainingError
from quickdraw_core.launching import processes
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.reporting.figure import label_heights
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.sweep import finish, rows, run
from quickdraw_core.sweep.built_in_tables import TABLES
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.figures import draw_figures, row_labels, smoothed
from quickdraw_core.sweep.finish import finish_sweep
from quickdraw_core.sweep.plan import Sweep, plan_sweep
from quickdraw_core.sweep.results import RowResult, compare_orders, training_seconds
from quickdraw_core.sweep.row_slots import Slots, make_slots
from quickdraw_core.sweep.rows import PARENT_TAG, has_diverged, is_finished, nest, run_row
from quickdraw_core.sweep.run import PreparedSweep, prepare
from quickdraw_core.sweep.table import configs_of, read_table
from quickdraw_core.tracking.journal import append, follow, last_status, tags_record
from quickdraw_core.tracking.run_record import RunRecord, tracked_run_id
from quickdraw_core.tracking.runs import client


def open_sweep(config: SweepConfig) -> Sweep:
    """A sweep of which no row has begun."""
    return prepare(config, Opened()).begin()


TINY = """
description = "Three trainings of a second."
[values]
model = "net"
image = { encoding = "gray", side_px = 24 }
augment.mirror_share = 0.0
epochs = 2
hardware.ranks = 1
global_batch_size = 32
micro_batch_size = 32
tracking.log_every_steps = 1
validation.every_steps = 10

[[rows]]
name = "Right"
reported = 0.9
[[rows]]
name = "Reciprocal"
reported = 0.5
values = { loss = "softmax_reciprocal", optimizer.learning_rate = 0.001 }
[[rows]]
name = "No log"
shown_as_failed = true
values = { loss = "nll_without_log" }
"""


def table_file(folder: Path, text: str) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


# The table


def test_ctrl_c_waits_for_no_further_attempt_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(
        sweep: Any, name: str, opened: Any, slot: Any, stopping: threading.Event, turn: Any
    ) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        failed.set()
        raise TrainingError("a rank was lost")

    def interrupted(future: Any) -> None:
        failed.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "RETRY_SECONDS", 3_600)
    monkeypatch.setattr(run, "run_row", fail)
    monkeypatch.setattr(run, "_end_of", interrupted)
    sweep: Any = SimpleNamespace(slots=make_slots(1, 1, (), 1), chosen=("a",))
    with pytest.raises(KeyboardInterrupt):
        run.run_rows_here(sweep, Opened())


def test_a_file_is_a_table_with_the_rows_own_values_over_the_base(tmp_path: Path) -> None:
    table = read_table(table_file(tmp_path, TINY))
    assert (table.name, table.metric) == ("tiny", "top_3")
    configs = configs_of(table, {"epochs": 1})
    assert [config.loss.name for config in configs.values()] == [
        "cross_entropy", "softmax_reciprocal", "nll_without_log",
    ]  # fmt: skip
    assert {config.model.name for config in configs.values()} == {"net"}
    assert {config.epochs for config in configs.values()} == {1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reported = 0.9", "reportd = 0.9", r"tiny.toml, row 'Right': unknown option 'reportd': "
         "did you mean 'reported'"),
        ('name = "Right"', "", "tiny.toml, row 1: option 'name': Field required"),
        ("description", "descripton", "tiny.toml: unknown option 'descripton': did you mean"),
        ('name = "Right"', 'name = "no-LOG"', "'no-LOG' and 'No log' would share a folder"),
        ('name = "Right"', 'name = "A, B"', "row 'A, B': option 'name': --rows could not name it"),
        ('loss = "nll_without_log"', 'loss = "nl"', "row 'No log': option 'loss.name': unknown"),
        ('loss = "nll_without_log"', "los = 1", "row 'No log': unknown option 'los': did you"),
        ('loss = "nll_without_log"', 'store = "s"', "option 'store' is the sweep's own"),
        ("[values]", 'metric = "top3"\n[values]', "unknown metric; did you mean 'top_3'"),
        ("[values]", 'recipe = "repport"\n[values]', "unknown recipe 'repport': did you mean"),
        ("[values]", "[values", "tiny.toml is no TOML"),
        ("[[rows]]", "[[row]]", "unknown option 'row': did you mean 'rows'"),
    ],
)  # fmt: skip
def test_a_fault_names_file_row_and_remedy(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        configs_of(read_table(table_file(tmp_path, TINY.replace(old, new))), {})


def test_an_unknown_table_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no table 'report-smal': did you mean 'report-small'"):
        read_table("report-smal")
    with pytest.raises(ConfigError, match=r"no.toml cannot be read"):
        read_table("no.toml")


@pytest.mark.parametrize("rows", [[""], ["Right,"], [" , "], ["Right", ""]])
def test_an_empty_name_among_the_rows_is_refused_and_does_not_mean_all(rows: list[str]) -> None:
    with pytest.raises(ConfigError, match="--rows holds an empty name"):
        sweeps.sweep("report-small", rows=rows, fresh=True)


@pytest.mark.parametrize("name", TABLES)
def test_built_in_tables_are_the_reports_seven_rows_and_its_failed_training(name: str) -> None:
    table = read_table(name)
    assert table.metric == "top_3"
    rows = [row for row in table.rows if row.reported is not None]
    configs = configs_of(table, {})
    assert [
        (c.model.name, c.loss.name, c.optimizer.name, c.schedule.name, row.reported)
        for row in rows
        for c in [configs[row.name]]
    ] == [
        ("resnet18", "cross_entropy", "adam", "multistep", 0.89),
        ("resnet18", "cross_entropy", "adam", "step", 0.89),
        ("resnet18", "softmax_reciprocal", "sgd", "multistep", 0.63),
        ("resnet34", "cross_entropy", "adam", "multistep", 0.89),
        ("resnet34", "cross_entropy", "sgd", "multistep", 0.89),
        ("densenet121", "cross_entropy", "adam", "multistep", 0.80),
        ("vgg11", "cross_entropy", "sgd", "multistep", 0.81),
    ]
    (failed,) = [row for row in table.rows if row.shown_as_failed]
    assert failed.reported is None
    assert configs[failed.name].loss.name == "nll_without_log"
    # A fair comparison: as many steps, as many drawings, of the same size.
    assert len({(c.epochs, c.global_batch_size, c.select, c.image) for c in configs.values()}) == 1


# Slots


@pytest.mark.parametrize(
    ("parallel", "ranks", "devices", "expected"),
    [
        (None, 1, (), [()]),
        (None, 2, "0123", [("0", "1"), ("2", "3")]),
        (None, 3, "0123", [("0", "1", "2")]),
        (1, 1, "01", [("0",)]),
        (None, 2, "0", [()]),  # too few for the ranks: the CPU
    ],
)
def test_each_row_gets_gpus_of_its_own(
    parallel: int | None, ranks: int, devices: str, expected: list[tuple[str, ...]]
) -> None:
    slots = make_slots(parallel, ranks, tuple(devices), cores=8)
    assert [slot.devices for slot in slots] == expected


def test_rows_at_once_share_the_cores_of_a_cpu() -> None:
    slots = make_slots(2, 2, (), cores=8)
    assert [slot.environment({}) for slot in slots] == [{"OMP_NUM_THREADS": "2"}] * 2
    assert [slot.environment({"OMP_NUM_THREADS": "3"}) for slot in slots] == [{}] * 2


def test_more_rows_than_the_gpus_carry_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"3 rows at once of 2 ranks each need 6 GPUs, found 4"):
        make_slots(3, 2, tuple("0123"), cores=8)


@given(st.integers(1, 4), st.lists(st.integers(0, 31).map(str), unique=True, max_size=12))
def test_no_gpu_is_in_two_slots(ranks: int, devices: list[str]) -> None:
    slots = make_slots(None, ranks, devices, cores=2)
    given_out = [device for slot in slots for device in slot.devices]
    assert len(set(given_out)) == len(given_out)
    assert set(given_out) <= set(devices)
    assert all(len(slot.devices) in (0, ranks) for slot in slots)


def test_a_slots_gpus_reach_its_training_processes_and_nobody_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks are stood in for by a process that tells what it was given."""
    config = SweepConfig(table=table_file(tmp_path, TINY), store=store.path, per_class=20,
                         run_dir=tmp_path / "swept", tracking_uri="none")  # fmt: skip
    sweep, told = open_sweep(config), tmp_path / "told.json"
    tell = f"import json, os; json.dump(dict(os.environ), open({str(told)!r}, 'w'))"
    monkeypatch.setattr(processes, "launcher_command", lambda *_: [sys.executable, "-c", tell])
    before = dict(os.environ)
    slots = Slots(make_slots(2, 1, ("4", "7"), cores=2))
    ended = pytest.raises(TrainingError, match="ended without a checkpoint")
    with slots.taken(), slots.taken() as slot, ended:
        run_row(sweep, "Right", Opened(), slot)
    given_to = json.loads(told.read_text())
    assert given_to["CUDA_VISIBLE_DEVICES"] == "7"
    assert "OMP_NUM_THREADS" in given_to
    assert dict(os.environ) == before


# The order, and the time


def row_of(name: str, reported: float | None, low: float, high: float, **more: Any) -> RowResult:
    measured = Estimate((low + high) / 2, low, high, 100)
    values: dict[str, Any] = {"model": "net", "loss": "cross_entropy", "optimizer": "adam",
              "schedule": "step", "shown_as_failed": False, "scores": {}, "seconds": 1.0,
              "images_per_second": 1.0, "failure": None, "run_dir": Path(name),
              "mlflow_run_id": "", "curves": {}}  # fmt: skip
    return RowResult(name=name, reported=reported, measured=measured, **values | more)


def test_an_order_is_only_told_where_intervals_do_not_overlap() -> None:
    rows = [
        row_of("best", 0.9, 0.80, 0.84),
        row_of("equal", 0.9, 0.70, 0.75),
        row_of("near", 0.8, 0.74, 0.79),
        row_of("worst", 0.6, 0.90, 0.95),
        row_of("mistake", 0.1, 0.0, 0.1, shown_as_failed=True),
        row_of("not reported", None, 0.0, 0.1),
        replace(row_of("not run", 0.5, 0.0, 0.1), measured=None),
    ]
    verdicts = {(p.upper.name, p.lower.name): p.verdict for p in compare_orders(rows)}
    assert verdicts == {
        ("best", "equal"): "differs",
        ("best", "near"): "agrees",
        ("best", "worst"): "differs",
        ("equal", "near"): "open",
        ("equal", "worst"): "differs",
        ("near", "worst"): "differs",
    }


def test_the_time_is_that_of_all_attempts_and_of_nothing_between() -> None:
    records = [
        {"status": "RUNNING", "time_ms": 1_000},
        {"step": 1, "time_ms": 3_000, "metrics": {}},  # and killed
        {"status": "RUNNING", "time_ms": 60_000},
        {"step": 2, "time_ms": 61_000, "metrics": {}},
        {"status": "FINISHED", "time_ms": 64_000},
        {"step": 0, "time_ms": 99_000, "metrics": {}, "again": True},  # an evaluation
    ]
    assert training_seconds(records) == 6
    assert training_seconds([*records[:4], records[-1]]) == 3
    assert training_seconds([]) == 0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.001, 0.5),
)
def test_labels_stand_apart_in_the_order_of_their_lines(
    heights: list[float], least: float
) -> None:
    places = label_heights(heights, least, 0, 1)
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(np.array(places)[order])
    assert (gaps > -1e-9).all()
    assert gaps.min(initial=1) >= min(least, 1 / max(1, len(heights) - 1)) - 1e-9
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9


def test_rows_that_differ_in_something_else_have_names_of_their_own() -> None:
    rows = [
        row_of("a", 0.9, 0, 1),
        row_of("b", 0.9, 0, 1, optimizer="sgd"),
        row_of("c", 0.9, 0, 1, optimizer="sgd", schedule="cosine"),
        row_of("rate 0.1", 0.9, 0, 1, model="vgg11"),
        row_of("rate 0.2", 0.9, 0, 1, model="vgg11"),
    ]
    assert row_labels(rows) == ["net, adam", "net, sgd, step", "net, sgd, cosine",
                             "rate 0.1", "rate 0.2"]  # fmt: skip


def test_smoothing_is_the_mean_of_the_points_before() -> None:
    assert smoothed(np.array([4.0, 2.0, 0.0, 6.0]), 2).tolist() == [4, 3, 1, 3]
    assert smoothed(np.array([4.0, 2.0]), 1).tolist() == [4, 2]


def test_figures_are_drawn_of_what_is_there(tmp_path: Path) -> None:
    steps = np.arange(1, 50)
    curves = {
        "train/loss": Curve(steps, 3 / steps), "validation/top_3": Curve(steps, 1 - 1 / steps)
    }  # fmt: skip
    right = row_of("a", 0.9, 0, 1, curves=curves)
    assert draw_figures([row_of("none", 0.9, 0, 1)], tmp_path) == ()
    assert {p.name for p in draw_figures([right], tmp_path)} == {
        "loss-by-network.png", "loss-by-network.svg",
    }  # fmt: skip
    other = row_of("b", 0.9, 0, 1, curves=curves, loss="hinge")
    failed = row_of("c", None, 0, 1, curves=curves, loss="nll_without_log", shown_as_failed=True)
    drawn = draw_figures([right, other, failed], tmp_path)
    assert {p.stem for p in drawn} == {"loss-by-network", "accuracy-by-loss", "failed-training"}
    text = (tmp_path / "failed-training.svg").read_text()
    assert "loss below zero" in text
    assert "hinge" in (tmp_path / "accuracy-by-loss.svg").read_text()


STEPS = np.arange(1, 50)
FALLING = {"train/loss": Curve(STEPS, 3 / STEPS), "validation/top_3": Curve(STEPS, 1 - 1 / STEPS)}


def test_another_failure_is_not_called_a_forgotten_log(tmp_path: Path) -> None:
    """And lines whose losses are the same have the rows' names."""
    right = row_of("Careful", 0.9, 0, 1, curves=FALLING)
    failed = row_of("Cost $5 or $6_", None, 0, 1, curves=FALLING, shown_as_failed=True)
    draw_figures([right, failed], tmp_path)
    text = (tmp_path / "failed-training.svg").read_text()
    assert "Failed on purpose: Cost $5 or $6_" in text
    assert "below zero" not in text
    assert "sure of it" not in text
    assert ">cross_entropy<" not in text
    assert ">Careful<" in text
    assert text.count(">Cost $5 or $6_<") == 2


@pytest.mark.parametrize("loss", ["nll_without_log", "cross_entropy"])
@pytest.mark.parametrize("accuracy", [None, np.full(49, np.nan)], ids=["none", "nan"])
def test_a_failure_before_the_first_validation_is_drawn_all_the_same(
    tmp_path: Path, loss: str, accuracy: np.ndarray[Any, Any] | None
) -> None:
    curves = {"train/loss": Curve(STEPS, np.where(STEPS < 20, 3.0 / STEPS, np.inf))}
    if accuracy is not None:
        curves["validation/top_3"] = Curve(STEPS, accuracy)
    failed = row_of("c", None, 0, 1, curves=curves, loss=loss, shown_as_failed=True)
    drawn = draw_figures([row_of("a", 0.9, 0, 1, curves=curves), failed], tmp_path)
    assert {path.stem for path in drawn} == {"loss-by-network", "failed-training"}
    text = (tmp_path / "failed-training.svg").read_text()
    assert "What it learns meanwhile" not in text
    assert (">0: the least that a right loss can be<" in text) == (loss == "nll_without_log")


# Failed on purpose, and tried again

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


@pytest.mark.parametrize(("attempt", "fresh"), [(1, True), (2, False)])
def test_a_flow_that_prefect_tries_again_starts_nothing_over(
    attempt: int, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def away(config: SweepConfig, _: Opened) -> PreparedSweep:
        seen.append(config.fresh)
        raise OSError("gone")

    monkeypatch.setattr(flows.sweep, "prepare", away)
    # Prefect's own way to stand in for the facts of a run.
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", str(attempt))
    with pytest.raises(OSError, match="gone"):
        flows.sweep.sweep.fn(SweepConfig(table="tiny", fresh=True))
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
