"""Which runs failed and were not redone, what a rerun changes, and what it would do: without a
server. On a real one: `test_service.py`.
"""

import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.states import Failed, Scheduled
from session import prefect_api
from typer.testing import CliRunner

from flows.evaluate import evaluate
from flows.needs import needs_of_runs
from flows.pipeline import pipeline
from flows.reruns.again import run_again
from flows.reruns.changes import changed, plan
from flows.reruns.find import FOLDER_TAG, INSTEAD_TAG, find_runs, not_redone, require_ended
from flows.reruns.status import sections
from flows.sweep import sweep
from flows.train import train
from quickdraw_core.assignments import parse_assignments
from quickdraw_core.cli import app
from quickdraw_core.commands.reruns import require_for_one
from quickdraw_core.commands.running import STOPPED, how_to_go_on
from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import INGEST_STAGE
from quickdraw_core.launching.train import TRAIN_STAGE
from quickdraw_core.pipeline import STAGES, Pipeline, plan_pipeline, run_pipeline
from quickdraw_core.stage import Action, Opened
from quickdraw_core.store.store import Store
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import open_run_folder

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
NIGHTLY, OTHER = UUID(int=1), UUID(int=2)
PIPELINE = {
    "ingest": {"source": ["csv"], "store": "store"},
    "train": {"recipe": "laptop", "run_dir": "runs/mine"},
    "evaluate": {"allow_short": True},
    "promote": None,
}


def run(
    number: int,
    name: str,
    hours_ago: float,
    deployment: UUID | None = NIGHTLY,
    message: str = "",
    **more: Any,
) -> FlowRun:
    """A flow run in a state that it came to so long ago; in the future if that is negative."""
    moment = NOW - timedelta(hours=hours_ago)
    kinds = {"Late": "SCHEDULED", "AwaitingConcurrencySlot": "SCHEDULED"}
    kind = StateType(kinds.get(name, name.upper()))
    state = State(type=kind, name=name, timestamp=min(moment, NOW), message=message)
    state.state_details.scheduled_time = moment
    values = {"flow_id": UUID(int=9), "deployment_id": deployment, "name": f"run {number}"}
    values |= {"start_time": moment, "expected_start_time": moment, "parameters": {"seed": 1}}
    return FlowRun.model_validate({"id": UUID(int=number), "state": state, **values, **more})


def numbers(runs: list[FlowRun]) -> list[int]:
    return [found.id.int for found in runs]


@pytest.mark.parametrize(
    ("later", "left"),
    [
        ([], [10]),
        ([run(11, "Completed", 1)], []),
        ([run(11, "Running", 1)], []),
        ([run(11, "AwaitingConcurrencySlot", 1)], []),
        ([run(11, "Cancelled", 1)], [10]),
        ([run(11, "Failed", 1)], [11]),
        ([run(11, "Crashed", 1), run(12, "Completed", 0.5)], []),
        ([run(11, "Completed", 3)], [10]),
        ([run(11, "Completed", 1, OTHER)], [10]),
        ([run(11, "Completed", 1, parameters={"seed": 2})], [10]),
        ([run(11, "Completed", 1, parameters={}, tags=[f"{INSTEAD_TAG}{UUID(int=10)}"])], []),
        ([run(11, "Failed", 1, parameters={}, tags=[f"{INSTEAD_TAG}{UUID(int=10)}"])], [11]),
        ([run(11, "Failed", 1, OTHER)], [10, 11]),
        ([run(11, "Failed", 1, None, tags=["folder:/a"])], [10, 11]),
        ([run(11, "Late", 1, None)], [10, 11]),  # killed before it ran again
        ([run(11, "Late", 1)], []),  # a worker will take it up
    ],
)
def test_what_failed_and_was_not_redone_since(later: list[FlowRun], left: list[int]) -> None:
    assert numbers(not_redone([*later, run(10, "Failed", 2)])) == left


def test_a_run_that_is_only_planned_has_redone_nothing() -> None:
    future = run(11, "Scheduled", 0)
    future.state.state_details.scheduled_time = datetime.now(UTC) + timedelta(hours=9)  # type: ignore[union-attr]
    assert numbers(not_redone([run(10, "Failed", 2), future])) == [10]


def test_the_status_names_each_run_where_it_belongs_with_reason_and_remedy() -> None:
    why = "Flow run encountered an exception: InputError: no http://me:pw@host/x.csv"
    found = sections(
        [
            run(1, "Failed", 30, message=f"{why}\nand more"),
            run(2, "Late", 2, OTHER, work_pool_name="gpu"),
            run(3, "AwaitingConcurrencySlot", 1, OTHER),
            run(4, "Running", 0.5, OTHER),
            run(5, "Completed", 3, OTHER, total_run_time=timedelta(minutes=7)),
        ],
        NOW,
    )
    rows = {title: [row[0] for row in section.rows] for title, section in found.items()}
    assert rows == {
        "failed and not redone since": ["run 1"],
        "late": ["run 2"],
        "waiting": ["run 3"],
        "at work": ["run 4"],
        "planned": [],
        "ended": ["run 5", "run 1"],
    }
    failed = found["failed and not redone since"]
    assert failed.rows[0][-1] == "InputError: no http://me:…@host/x.csv"
    assert f"quickdraw rerun {UUID(int=1)}" in failed.after[0]
    assert "prefect worker start --pool gpu" in found["late"].rows[0][-1]
    assert found["ended"].rows[0][-1] == "7 min"


def test_a_rerun_that_was_killed_before_it_began_can_be_rerun() -> None:
    left, taken_up = run(1, "Late", 1, None), run(2, "Late", 1)
    require_ended(left)
    starting = run(3, "Late", 0, None)
    starting.expected_start_time = datetime.now(UTC) - timedelta(seconds=20)
    with pytest.raises(ConfigError, match="is Late, not ended"):
        require_ended(starting)
    with pytest.raises(ConfigError, match="is Late, not ended"):
        require_ended(taken_up)
    found = sections([left, taken_up], NOW)
    rows = {title: [row[0] for row in section.rows] for title, section in found.items()}
    assert rows["failed and not redone since"] == ["run 1"]
    assert rows["late"] == ["run 2"]
    assert "was killed" in found["failed and not redone since"].rows[0][-1]


def test_changes_are_laid_over_a_runs_parameters_by_stage() -> None:
    asked = parse_assignments(["train.optimizer.learning_rate=0.005", "train.model=net"])
    new = changed(pipeline, PIPELINE, asked, "train")
    train_values = new.parameters["train"]
    assert train_values["optimizer"] == {"learning_rate": 0.005}
    assert train_values["model"] == {"name": "net"}
    assert train_values["recipe"] == "laptop"
    assert new.parameters["redo_from"] == "train"
    assert {key: new.parameters[key] for key in ("ingest", "evaluate")} == {
        key: PIPELINE[key] for key in ("ingest", "evaluate")
    }
    assert ("train.optimizer.learning_rate", "as its recipe or default", "0.005") in (
        new.differences
    )


@pytest.mark.parametrize(
    ("assignment", "is_another"),
    [("train.optimizer.learning_rate=0.005", True), ("train.checkpoints.keep=4", False)],
)
def test_a_training_of_other_weights_gets_a_folder_of_its_own(
    assignment: str, is_another: bool
) -> None:
    new = changed(pipeline, PIPELINE, parse_assignments([assignment]), None)
    folder = new.parameters["train"]["run_dir"]
    assert bool(re.fullmatch(r"runs/mine-[0-9a-f]{10}", folder)) == is_another
    assert (folder == "runs/mine") != is_another


@pytest.mark.parametrize(
    ("flow", "assignments", "redo_from", "message"),
    [
        (pipeline, ["trian.seed=1"], None, "did you mean 'train'"),
        (pipeline, ["train.sede=1"], None, "did you mean 'seed'"),
        (pipeline, ["train.epochs=0"], None, "epochs"),
        (pipeline, ["train=3"], None, "give a key of it"),
        (pipeline, ["promote.margin=0.1"], None, "the run has no promote"),
        (pipeline, [], "trian", "did you mean 'train'"),
        (pipeline, [], "promote", "nothing is promoted"),
        (train, [], "train", "this is one of train"),
    ],
)
def test_wrong_changes_are_refused_in_one_line(
    flow: Any, assignments: list[str], redo_from: str | None, message: str
) -> None:
    parameters = PIPELINE if flow is pipeline else {"config": {"recipe": "laptop"}}
    with pytest.raises(ConfigError, match=message) as caught:
        changed(flow, parameters, parse_assignments(assignments), redo_from)
    assert "\n" not in str(caught.value)


def test_a_stage_that_the_pipeline_has_not_is_refused_as_a_parameter_of_prefects_form() -> None:
    given = pipeline.validate_parameters({**PIPELINE, "redo_from": "promote"})
    given["train"] = given["train"].whole()
    with pytest.raises(ConfigError, match=r"redo_from=promote.*: nothing is promoted"):
        run_pipeline(Pipeline(**given), lambda *_: pytest.fail("a stage began"), Opened())


def test_a_flow_of_one_stage_takes_the_keys_of_its_command() -> None:
    new = changed(train, {"config": {"recipe": "laptop"}}, {"seed": 5}, None)
    assert new.parameters == {"config": {"recipe": "laptop", "seed": 5}}


def test_a_changed_address_is_recorded_without_its_secret() -> None:
    asked = parse_assignments(["train.tracking.uri=http://me:secret@host:5000"])
    assert "secret" not in str(changed(pipeline, PIPELINE, asked, None))


def test_what_a_run_was_to_do_anew_is_not_done_anew_once_more() -> None:
    asked = parse_assignments(["train.checkpoints.keep=4"])
    before = {**PIPELINE, "redo_from": "train"}
    assert "redo_from" not in changed(pipeline, before, asked, None).parameters
    new = changed(pipeline, before, {}, "evaluate")
    assert new.parameters["redo_from"] == "evaluate"


def test_differences_are_shown_without_secrets() -> None:
    before = {**PIPELINE, "ingest": {"source": ["https://host/x.csv?sig=tops3cret"]}}
    new = changed(pipeline, before, {"ingest": {"source": ["csv"], "store": "store"}}, None)
    assert "sig=…" in str(new.differences)
    assert "tops3cret" not in str(new.differences)


def test_a_plan_of_a_sweep_is_refused() -> None:
    with pytest.raises(ConfigError, match="no plan"):
        plan(sweep, {"config": {"table": "report-small"}}, Opened())
    with pytest.raises(ConfigError, match="no model to evaluate"):
        plan(evaluate, {"config": {"store": "none"}}, Opened())


def why_ingest(config: IngestConfig) -> tuple[Action, str]:
    found = INGEST_STAGE.outlook(config, Opened())
    return found.action, found.why


def test_a_plan_says_what_an_ingest_would_read_and_why(
    csv_folder: Path, store: Store, tmp_path: Path
) -> None:
    shutil.copytree(csv_folder, tmp_path / "csv")
    shutil.copytree(store.path, tmp_path / "store")
    values = {"source": csv_folder, "store": tmp_path / "store", "test_per_class": 20}
    config = IngestConfig.parse(values)
    assert why_ingest(config)[0] == Action.REUSE
    assert why_ingest(config.updated({"store": tmp_path / "none"})) == (
        Action.ANEW,
        f"there is no store {tmp_path / 'none'} yet",
    )
    assert why_ingest(config.updated({"fresh": True}))[0] == Action.ANEW
    action, why = why_ingest(config.updated({"rows": "head:50"}))
    assert action == Action.CONTINUE
    assert "rows is head:50, was" in why
    files = sorted((tmp_path / "csv").glob("*.csv"))
    shutil.copy(files[0], tmp_path / "csv" / "owl.csv")
    files[1].unlink()
    action, why = why_ingest(config.updated({"source": tmp_path / "csv"}))
    assert action == Action.CONTINUE
    assert "of the files, " in why
    part = tmp_path / "store" / store.manifest.files[0].path
    part.unlink()
    assert why_ingest(config) == (
        Action.CONTINUE,
        "files of the store are missing or damaged; the whole ones are kept",
    )


def test_a_plan_says_from_which_step_a_training_goes_on(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = open_run_folder(trained, Opened()).config
    assert isinstance(config, TrainConfig)
    here = config.updated({"tracking": {"uri": "none"}})
    shutil.copytree(trained, tmp_path / "run")
    sorted((tmp_path / "run" / "checkpoints").glob("step-*.pt"))[-1].unlink()
    cut = TRAIN_STAGE.outlook(here.updated({"run_dir": tmp_path / "run"}), Opened())
    assert cut.action == Action.CONTINUE
    assert re.search(r"from step [\d,]+, its last checkpoint", cut.why)
    other = here.updated({"run_dir": None, "seed": 5})
    found = TRAIN_STAGE.outlook(other, Opened())
    assert found.action == Action.ANEW
    assert "no run of these options" in found.why
    assert TRAIN_STAGE.outlook(here.updated({"fresh": True}), Opened()).action == Action.ANEW


def test_a_plan_of_a_run_that_goes_on_keeps_what_its_earlier_attempt_did_anew(
    trained: Path, csv_folder: Path, store: Store, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns(".lock*"))
    config = open_run_folder(trained, Opened()).config
    assert isinstance(config, TrainConfig)
    values = {"source": csv_folder, "store": store.path, "test_per_class": 20}
    job = Pipeline(
        IngestConfig.parse(values),
        config.updated({"run_dir": tmp_path / "run", "tracking": {"uri": "none"}}),
        EvaluateConfig.parse({"allow_short": True}),
        redo_from="pack",
    )

    def planned(begun: float | None) -> list[tuple[str, str]]:
        plan = plan_pipeline(job, Opened(), begun)
        return [(stage, outlook.action) for stage, outlook in plan.items()]

    new = [*zip(STAGES, ["reuse", "do anew", "do anew", "do anew"], strict=False)]
    assert planned(None) == planned(time.time() + 60) == new
    going_on = plan_pipeline(job, Opened(), 1.0)
    assert [outlook.action for outlook in going_on.values()][:2] == ["reuse", "reuse"]
    assert going_on["train"].why != "asked for, from pack on"
    assert going_on["evaluate"].action == Action.ANEW


def test_a_plan_before_there_is_a_store_says_what_makes_it(
    csv_folder: Path, tmp_path: Path
) -> None:
    job = Pipeline(
        IngestConfig.parse({"source": csv_folder, "store": tmp_path / "store"}),
        TrainConfig.parse({"run_dir": tmp_path / "run", "tracking": {"uri": "none"}}),
        EvaluateConfig.parse({"allow_short": True}),
    )
    plan = plan_pipeline(job, Opened())
    assert {plan[stage].why for stage in ("pack", "train", "evaluate")} == {
        "follows ingest, which makes its store"
    }


def test_ctrl_c_names_the_options_that_would_start_over() -> None:
    assert how_to_go_on(["pipeline", "csv"]) == STOPPED
    assert "(without --from)" in how_to_go_on(["pipeline", "csv", "--from", "train"])
    assert "(without --from)" in how_to_go_on(["pipeline", "csv", "--from=train"])
    assert "(without --fresh)" in how_to_go_on(["train", "--fresh"])
    assert "(without --fresh and --from)" in how_to_go_on(["pipeline", "--fresh", "--from=pack"])


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: prefect_api()}),
        get_client(sync_client=True) as client,
    ):
        yield client


def test_a_run_that_began_before_and_failed_since_is_found(client: SyncPrefectClient) -> None:
    begun: Any = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=30))
    failed: Any = Failed(message="disk full")
    values = {"state": begun, "parameters": {"config": {"table": str(uuid4())}}}
    runs = [client.create_flow_run(sweep, **values) for _ in range(2)]
    client.set_flow_run_state(runs[0].id, failed, force=True)
    found = [run.id for run in find_runs(86_400, "sweep")]
    for run in runs:
        client.delete_flow_run(run.id)
    assert found.count(runs[0].id) == found.count(runs[1].id) == 1


def test_names_that_a_run_uses_are_paths_from_its_own_folder(client: SyncPrefectClient) -> None:
    values: Any = {"config": {"models": ["runs/mine"], "store": "/data/store"}}
    run = client.create_flow_run(evaluate, parameters=values, tags=[f"{FOLDER_TAG}/elsewhere"])
    names = needs_of_runs(86_400).names
    client.delete_flow_run(run.id)
    assert {"runs/mine", "/elsewhere/runs/mine", "/data/store"} <= names


def test_of_all_that_failed_one_that_somebody_reran_meanwhile_is_left_alone(
    client: SyncPrefectClient,
) -> None:
    values: Any = {"parameters": {"config": {"table": str(uuid4())}}, "name": str(uuid4())}
    failed: Any = Failed(message="disk full")
    run = client.create_flow_run(sweep, state=failed, **values)
    old = client.read_flow_run(run.id)
    again: Any = Scheduled()
    client.set_flow_run_state(run.id, again, force=True)
    with pytest.raises(ConfigError, match="not ended"):
        run_again(old)
    client.delete_flow_run(run.id)


def test_changes_that_none_of_all_runs_takes_are_refused_before_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flows = {1: pipeline, 2: train}
    monkeypatch.setattr("flows.reruns.again.flow_of_run", lambda run: flows[run.id.int])
    runs = [
        run(1, "Failed", 1, parameters=PIPELINE),
        run(2, "Failed", 1, parameters={"config": {"recipe": "laptop"}}),
    ]
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        require_for_one(runs, parse_assignments(["trian.seed=1"]), None)
    require_for_one(runs, parse_assignments(["train.seed=1"]), None)
    require_for_one(runs, {}, "train")


@pytest.mark.parametrize("words", ["status", "rerun --all-failed", "rerun --last-failed"])
def test_without_a_server_and_its_records_it_says_so_and_makes_none(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = temporary_settings({PREFECT_HOME: tmp_path}, restore_defaults={PREFECT_API_URL})
    with settings:
        done = CliRunner().invoke(app, words.split())
    assert isinstance(done.exception, ConfigError)
    assert "no runs are recorded: no Prefect server is configured" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("status --since yesterday", "a number and a unit"),
        ("rerun --last-failed --since 1d", "give that as well"),
        ("rerun some --all-failed", "give a RUN"),
        ("rerun --all-failed --from trian", "did you mean 'train'"),
        ("status --since 99999999w", "100 years at most"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_a_server_is_asked(
    words: str, message: str
) -> None:
    error = CliRunner().invoke(app, words.split()).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)
