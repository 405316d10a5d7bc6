"""Why two models differ: what is recorded of their trainings, and what of it is not the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainings import train_config

from quickdraw_core.diagnosis.cost import Cost, cost_of, cost_of_tags, cost_tags
from quickdraw_core.differences.recorded import GROUPS, Recorded, options_of, recorded_of
from quickdraw_core.differences.text import why_lines, why_markdown, why_table, why_tag
from quickdraw_core.differences.why import why
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.references import load_model
from quickdraw_core.launching.provenance import processor_name, provenance_of
from quickdraw_core.store.store import Store
from quickdraw_core.system.code_version import code_version, version_of_each
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.tracking.system_metrics import cpu_power_meter
from quickdraw_core.training.run_folder import RunFolder

DIGESTS = dict.fromkeys(
    ("drawing", "labels", "loading", "modeling", "render", "store", "training"), "1a"
)
A = Recorded(
    "a",
    {
        "model": {"step": 100, "mean of checkpoints": 1, "tta": "none", "precision": "fp32"},
        "options": {"seed": 0, "epochs": 20.0, "optimizer.learning_rate": 0.01, "augment": None},
        "code": {"version": "1.0", "git commit": "c" * 40, **DIGESTS},
        "data": {"store": "f" * 64, "drawings": 9_000, "quarantined": 3},
        "environment": {"torch": "2.14", "device": "cpu", "ranks": 1, "threads": 2},
        "cost": {"time": "9 min 0 s", "images/s": "1,200"},
    },
    weights="w",
    run="run a",
)


def other(run: str = "run b", weights: str = "v", **changes: dict[str, object]) -> Recorded:
    """A second training, which differs from `A` in these values of these groups."""
    groups = {name: {**A.groups[name], **changes.get(name, {})} for name in GROUPS}
    return Recorded("b", groups, weights, run)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"options": {"seed": 1}}, "nothing differs but the seed (0 and 1)"),
        (
            {"options": {"seed": 1}, "cost": {"time": "8 min"}, "model": {"step": 90}},
            "the seed (0",
        ),
        ({"model": {"tta": "flip"}}, "nothing differs but tta (none and flip)"),
        (
            {"options": {"seed": 1}, "environment": {"ranks": 2}},
            "nothing differs but the seed (0 and 1) and ranks (1 and 2)",
        ),
        ({"code": {"git commit": "d" * 40}}, "nothing differs: options, code, data and env"),
        ({"cost": {"time": "8 min"}, "model": {"step": 90}}, "nothing differs: options"),
        (
            {"data": {"store": "e" * 64, "drawings": 8, "quarantined": 0}, "options": {"seed": 1}},
            "4 things differ: options (1), data (3)",
        ),
    ],
)
def test_a_sentence_says_all_that_differs(
    changes: dict[str, dict[str, object]], says: str
) -> None:
    answer = why(A, other(**changes))
    assert says in answer.sentence
    assert why_lines(answer) == [answer.sentence]


@given(st.sets(st.sampled_from([(g, n) for g in GROUPS for n in A.groups[g]])))
def test_what_differs_is_listed_and_nothing_else(changed: set[tuple[str, str]]) -> None:
    """Commits are no difference if the code of the training is the same."""
    changes: dict[str, dict[str, object]] = {}
    for group, name in changed:
        changes.setdefault(group, {})[name] = "another"
    rows = {(row.group, row.name) for row in why(A, other(**changes)).rows}
    is_same_code = not any(("code", name) in changed for name in DIGESTS)
    assert rows == changed - ({("code", "git commit")} if is_same_code else set())


def test_equal_groups_are_not_in_the_table_and_names_stand_once() -> None:
    answer = why(A, other(options={"seed": 1, "augment": {"shear": 0.1}}, code={"loading": "2b"}))
    heads, rows = why_table(answer)
    assert heads == ["differs in", "", "a", "b"]
    assert rows == [
        ["options", "seed", "0", "1"],
        ["", "augment", "none", "shear=0.1"],
        ["code", "loading", "1a", "2b"],
    ]
    (page,) = why_markdown([answer])
    assert "| options | seed | 0 | 1 |" in page
    assert "options augment: none → shear=0.1" in why_tag(answer)
    assert json.loads(json.dumps(answer.to_json()))["differences"][2]["group"] == "code"


def test_steps_that_a_budget_of_minutes_gave_are_a_cause_and_those_of_options_are_not() -> None:
    minutes = {"epochs": None, "max_minutes": 1.0}
    a = replace(A, groups={**A.groups, "options": {**minutes, "planned steps": 62}})
    b = replace(a, name="b", run="b", weights="v", groups={
        **a.groups, "options": {**minutes, "planned steps": 7},
    })  # fmt: skip
    assert why(a, b).sentence == "nothing differs but planned steps (62 and 7)"
    b = replace(
        b, groups={**b.groups, "options": {**minutes, "max_minutes": 2.0, "planned steps": 9}}
    )
    answer = why(a, b)
    assert answer.sentence == "nothing differs but max_minutes (1 and 2)"
    assert [row.name for row in answer.rows] == ["max_minutes", "planned steps"]


@pytest.mark.parametrize(
    ("first", "second", "texts"),
    [
        ({"shear": 0.1, "turn": 3}, {"shear": 0.1, "turn": 4}, ("3", "4")),
        (list("abcde"), list("abcdf"), ("5, only here: e", "5, only here: f")),
        (list("abcde"), list("abcdef"), ("5", "6, only here: f")),
        (list("abcde"), list("abced"), (repr(list("abcde")), repr(list("abced")))),
        (0.12345678, 0.12345679, ("0.12345678", "0.12345679")),
        ("x" * 60, "x" * 61, (repr("x" * 60), repr("x" * 61))),
        (1000, "1,000", ("1000", "'1,000'")),
    ],
)
def test_values_that_differ_are_never_the_same_text(
    first: object, second: object, texts: tuple[str, str]
) -> None:
    a = replace(A, groups={**A.groups, "options": {"augment": first}})
    (row,) = why(a, other(options={"augment": second})).rows[-1:]
    assert (row.first, row.second) == texts
    value = row.to_json()
    is_group = isinstance(first, dict)
    assert row.name == ("augment.turn" if is_group else "augment")
    assert (value["first"], value["second"]) == ((3, 4) if is_group else (first, second))


def test_what_one_of_them_did_not_record_is_said_and_not_called_different() -> None:
    older = other(options={"seed": 1})
    groups = {**older.groups, "code": {"version": "1.0"}, "data": {"store": "f" * 64}}
    answer = why(A, replace(older, groups=groups))
    assert answer.sentence == ("nothing differs but the seed (0 and 1), as far as it is recorded")
    (line,) = why_lines(answer)[1:]
    assert line == (
        "not recorded for b: code: digest of each package, git commit; data: drawings, quarantined"
    )


def test_two_checkpoints_of_one_training_differ_in_their_step() -> None:
    answer = why(A, other(run="run a", model={"step": 200}))
    assert answer.sentence == "nothing differs but the step (100 and 200)"
    assert "have the same weights" in why(A, other(weights="w")).sentence


def test_of_an_ensemble_it_is_said_what_is_compared() -> None:
    both = Recorded("x + y", members=("x", "y"))
    sentence = why(A, both).sentence
    assert sentence.startswith(
        "x + y is an ensemble of x and y: only the predictions are compared"
    )
    assert "the training of b is not recorded" in why(A, Recorded("b")).sentence


def test_a_training_records_code_data_and_environment(trained: Path, store: Store) -> None:
    model = load_model(str(trained))
    provenance = model.checkpoint.provenance
    assert provenance["data"]["drawings"] == store.manifest.rows_kept
    assert provenance["data"]["store"] == store.manifest.fingerprint
    assert set(DIGESTS) < set(provenance["code"])
    environment = provenance["environment"]
    assert (environment["device"], environment["ranks"]) == ("cpu", 1)
    assert environment["threads"] >= 1
    assert RunFolder.read(trained).provenance["data"] == provenance["data"]
    assert provenance["plan"] == {"steps": RunFolder.read(trained).steps}
    record = RunRecord.read(trained)
    assert record is not None
    assert record.tags["data.drawings"] == str(store.manifest.rows_kept)
    assert record.tags["code.loading"] == provenance["code"]["loading"]
    found = recorded_of("a", model, "none", store.manifest)
    assert set(found.groups) == set(GROUPS)
    assert {"time", "images/s"} <= set(found.groups["cost"])


def of_before(model: TrainedModel) -> TrainedModel:
    """As a version trained it that recorded no provenance, away from its run's folder."""
    return replace(model, checkpoint=replace(model.checkpoint, provenance={}), path=None)


def test_an_older_model_says_what_its_checkpoint_has(trained: Path, store: Store) -> None:
    model = load_model(str(trained))
    older = recorded_of("b", of_before(model), "none", store.manifest)
    assert older.groups["data"]["drawings"] == store.manifest.rows_kept  # of the same store
    assert (
        older.groups["options"]
        == recorded_of("a", model, "none", store.manifest).groups["options"]
    )
    assert not older.groups["cost"]
    answer = why(recorded_of("a", model, "none", store.manifest), older)
    assert answer.sentence.endswith("have the same weights")
    assert not answer.rows
    assert "not recorded for b: code: digest of each package" in why_lines(answer)[1]


def test_places_are_no_options(trained: Path, store: Store) -> None:
    options = options_of(load_model(str(trained)))
    assert {"seed", "epochs", "model.name", "augment", "hardware.compile"} <= set(options)
    assert not {"store", "run_dir", "tracking.uri", "hardware.ranks"} & set(options)
    config = train_config({"hardware.ranks": 2})
    assert provenance_of(config, store, 9)["environment"]["ranks"] == 2


def test_the_digest_of_a_package_is_that_of_its_modules() -> None:
    both = version_of_each("store/pack.py", "loading", "store/holdout.py", "labels.py")
    assert list(both) == ["labels", "loading", "store"]
    assert both["loading"] == code_version("loading")
    assert both["store"] == code_version("store/holdout.py", "store/pack.py")


def test_a_processor_without_a_name_is_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert processor_name(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert processor_name(tmp_path / "none")


def test_cost_is_time_median_speed_and_power_by_time() -> None:
    records = [
        {"status": "RUNNING", "time_ms": 0},
        {"step": 1, "time_ms": 1_000, "metrics": {"train/images_per_second": 100.0}},
        {
            "step": 0,
            "time_ms": 2_000,
            "metrics": {
                "system/cpu_power_usage_watts": 30.0,
                "system/gpu_0_power_usage_watts": 70,
            },
        },
        {"status": "KILLED", "time_ms": 3_000},
        {"status": "RUNNING", "time_ms": 100_000},
        {"step": 2, "time_ms": 101_000, "metrics": {"train/images_per_second": 300.0}},
        {"step": 1, "time_ms": 101_000, "metrics": {"system/cpu_power_usage_watts": 10.0}},
        {"status": "FINISHED", "time_ms": 102_000},
        {"step": 0, "time_ms": 900_000, "metrics": {"test/map_at_3": 0.5}, "again": True},
    ]
    cost = cost_of(records)
    assert cost == Cost(5.0, 200.0, 100.0 * 2 + 10.0 * 1)
    assert cost_of_tags(cost_tags(cost)) == cost
    assert cost_of([]) == cost_of_tags({}) == Cost()


def test_power_is_energy_by_time_also_when_a_counter_begins_again(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:1": "psys", "intel-rapl:0:0": "core"}

    def at(energy: int) -> None:
        for zone, name in zones.items():
            (tmp_path / zone).mkdir(exist_ok=True)
            (tmp_path / zone / "name").write_text(f"{name}\n")
            (tmp_path / zone / "energy_uj").write_text(f"{energy}\n")
            (tmp_path / zone / "max_energy_range_uj").write_text("50000000\n")

    times = iter([0.0, 2.0, 3.0])
    at(10_000_000)
    meter = cpu_power_meter(tmp_path, lambda: next(times))
    at(40_000_000)
    assert meter() == pytest.approx(15.0)
    at(10_000_000)
    assert meter() == pytest.approx(20.0)
    assert cpu_power_meter(tmp_path / "none")() is None
