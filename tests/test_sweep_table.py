"""A sweep's table, and the slots in which its rows run."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweeps import TINY, open_sweep, table_file

from quickdraw_core.commands import sweeps
from quickdraw_core.errors import ConfigError, TrainingError
from quickdraw_core.launching import processes
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.row_slots import Slots, make_slots
from quickdraw_core.sweep.rows import run_row
from quickdraw_core.sweep.table import configs_of, read_table


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


@pytest.mark.parametrize("name", ["report", "report-small"])
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
