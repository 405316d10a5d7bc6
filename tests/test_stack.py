"""docker-compose.yml, really up: on a private engine, from images that are built here.

The base images are stand-ins (`stack.py`), so this proves how the parts are put together and what
they do, not the official images. The tests are one story, in order (`-p no:randomly`), as they
share the stack.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from stack import SOURCE, Stack, mlflow_runs, running_engine, running_stack, runs_of, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2400)]

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
TRAINING = {
    **{"store": "store", "epochs": 40, "hardware": {"ranks": 2}, "augment": None},
    **{"optimizer": {"learning_rate": 0.003}, "validation": {"every_epochs": 5}},
    "tracking": {"log_every_steps": 5},
}
DRAWING = [[[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]]
KILL_AT = 45
"""Step, of about 120, after which the training's container is killed."""
CLUSTER_TRAINING = TRAINING | {"hardware": {"ranks": 1}, "optimizer": {"learning_rate": 0.002}}
"""A process on each of two hosts."""
CLUSTER_KILL_AT = 20


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    settings = {"QUICKDRAW_SOURCE": SOURCE, "QUICKDRAW_CRON": "* * * * *"}
    settings |= {"DASK_WORKER_THREADS": "1", "MLFLOW_WORKERS": "1"}
    with running_engine() as engine, running_stack(engine, folder, **settings) as running:
        yield running


def switch_schedule(stack: Stack, on: bool) -> None:
    """Pauses the nightly pipeline's schedule, or goes on with it."""
    deployment = stack.prefect("deployments/name/pipeline/nightly")
    [schedule] = deployment["schedules"]
    path = f"deployments/{deployment['id']}/schedules/{schedule['id']}"
    stack.prefect(path, {"active": on}, "PATCH")


def finished(stack: Stack, run_id: str) -> dict[str, Any] | None:
    run: dict[str, Any] = stack.prefect(f"flow_runs/{run_id}")
    return run if run["state_type"] in FINAL else None


def steps(stack: Stack, run: dict[str, Any]) -> list[int]:
    """The steps of the training's curve, in the order in which MLflow got them."""
    query = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=train/loss"
    return [int(point["step"]) for point in stack.mlflow(query).get("metrics", [])]


def start(stack: Stack, name: str, config: dict[str, Any]) -> str:
    """Starts a run of a deployment, with these options over its own: its id."""
    deployment = stack.prefect(f"deployments/name/{name}")
    config = deployment["parameters"]["config"] | {"recipe": None} | config
    path = f"deployments/{deployment['id']}/create_flow_run"
    run_id: str = stack.prefect(path, {"parameters": {"config": config}})["id"]
    return run_id


def training_beyond(
    stack: Stack, step: int, config: dict[str, Any], name: str = "train/on-demand"
) -> str:
    """Starts a training, and waits until it is past a step: its flow run."""
    before = {tracked["info"]["run_id"] for tracked in mlflow_runs(stack)}
    run_id = start(stack, name, config)

    def under_way() -> bool:
        return any(
            steps(stack, run)[-1:] > [step]
            for run in mlflow_runs(stack, "RUNNING")
            if run["info"]["run_id"] not in before
        )

    wait_for("training", under_way)
    return run_id


def test_it_comes_up_healthy_from_nothing(stack: Stack) -> None:
    found = {}
    for container in stack.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        state = container["State"]
        found.setdefault(service, []).append(
            state.get("Health", {}).get("Status", state["Status"])
        )
        assert container["RestartCount"] == 0, service
        if service == "bootstrap":
            assert state["ExitCode"] == 0
    assert found == {
        "bootstrap": ["exited"],
        "dask-scheduler": ["healthy"],
        "dask-worker": ["healthy", "healthy"],
        "mlflow": ["healthy"],
        "play": ["healthy"],
        "postgres": ["healthy"],
        "prefect-server": ["healthy"],
        "prefect-worker": ["healthy"],
    }


def test_it_is_reached_from_this_machine_alone(stack: Stack) -> None:
    addresses = {
        (container["Config"]["Labels"]["com.docker.compose.service"], binding["HostIp"])
        for container in stack.containers()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    services = ("prefect-server", "mlflow", "dask-scheduler", "play")
    assert addresses == {(service, "127.0.0.1") for service in services}
    assert stack.prefect("ready")
    assert stack.mlflow("experiments/search", {"max_results": 1})
    assert stack.ask("http://127.0.0.1:8787/json/counts.json")["workers"] == 2


def test_the_game_says_that_there_is_no_champion_yet(stack: Stack) -> None:
    for path, body in (("/readyz", None), ("/api/guess", {"drawing": DRAWING})):
        status, answer = stack.play(path, body)
        assert status == 503
        assert answer["error"].startswith("there is no model to guess with yet: no model models:/")
    status, answer = stack.play("/api/words/cat/drawings")
    assert status == 503
    assert answer["error"].startswith("there are no drawings to show yet: the store")
    assert stack.play("/healthz")[0] == 200


def test_nothing_runs_as_root_nor_can_change_its_image(stack: Stack) -> None:
    services = {c["Config"]["Labels"]["com.docker.compose.service"] for c in stack.containers()}
    for service in sorted(services - {"bootstrap"}):
        told = stack.execute(service, "sh", "-c", "id -u; touch /usr/x 2>/dev/null; echo $?")
        user, failed = told.split()
        assert user != "0", service
        assert failed != "0", service


def test_a_scheduled_run_is_made_and_one_without_its_source_fails(stack: Stack) -> None:
    def failed() -> dict[str, Any] | None:
        done = [r for r in runs_of(stack, "pipeline/nightly") if r["state_type"] in FINAL]
        return done[0] if done else None

    run = wait_for("the scheduled run", failed)
    assert run["auto_scheduled"]
    assert run["state_type"] == "FAILED"
    assert SOURCE in run["state"]["message"]
    switch_schedule(stack, on=False)  # a run a minute is more than may run at once


def test_it_is_retried_when_the_source_is_there_and_completes(stack: Stack) -> None:
    run = next(r for r in runs_of(stack, "pipeline/nightly") if r["state_type"] == "FAILED")
    generate = ["quickdraw", "generate", SOURCE, "--classes", "4", "--rows", "150"]
    stack.execute("prefect-worker", *generate)
    stack.execute("prefect-worker", "prefect", "flow-run", "retry", run["id"])
    done = wait_for("the retried run", lambda: finished(stack, run["id"]))
    assert done["state_type"] == "COMPLETED", done["state"]["message"]
    assert done["run_count"] == 2


def test_its_model_is_promoted_and_guesses(stack: Stack) -> None:
    wait_for("the champion in the game", lambda: stack.play("/readyz")[0] == 200, 90)
    status, answer = stack.play("/api/guess", {"drawing": DRAWING})
    assert status == 200, answer
    assert answer["model"]["name"] == "quickdraw@1"
    assert len(answer["guesses"]) == 3
    model = stack.ask("http://127.0.0.1:8000/api/model")
    assert model["problem"] is None
    assert 0 < model["metrics"]["map_at_3"]["value"] <= 1
    word = quote(answer["guesses"][0]["word"])
    status, answer = stack.play(f"/api/words/{word}/drawings?count=2")
    assert status == 200, answer
    assert len(answer["drawings"]) == 2


def test_the_next_scheduled_run_completes(stack: Stack) -> None:
    switch_schedule(stack, on=True)

    def completed() -> dict[str, Any] | None:
        runs = runs_of(stack, "pipeline/nightly")
        done = [r for r in runs if r["state_type"] == "COMPLETED" and r["run_count"] == 1]
        return done[-1] if done else None

    run = wait_for("a scheduled run that finds everything done", completed)
    assert run["auto_scheduled"]
    assert len(mlflow_runs(stack)) == 1
    switch_schedule(stack, on=False)


def test_a_killed_worker_comes_back(stack: Stack) -> None:
    training_beyond(stack, KILL_AT, TRAINING)
    stack.kill("prefect-worker")

    def back() -> bool:
        [container] = stack.containers("prefect-worker")
        state = container["State"]
        return bool(container["RestartCount"] == 1 and state["Health"]["Status"] == "healthy")

    wait_for("the worker's container", back)


def test_a_training_on_the_workers_of_dask_loses_one_of_them(stack: Stack) -> None:
    """While the run before is not missed yet. It is only begun here, so that the stack's time is
    used: `test_the_training_that_lost_a_worker_is_tried_again_and_completes` says how it ends.
    """
    training_beyond(stack, CLUSTER_KILL_AT, CLUSTER_TRAINING, "train/cluster")
    stack.kill("dask-worker")


def test_the_run_of_a_killed_worker_is_found_crashed(stack: Stack) -> None:
    [run] = [r for r in runs_of(stack, "train/on-demand") if r["run_count"]]
    done = wait_for("the automation that sees dead runs", lambda: finished(stack, run["id"]))
    assert done["state_type"] == "CRASHED"


def test_the_crashed_run_is_retried_and_trains_no_step_twice(stack: Stack) -> None:
    [run] = [r for r in runs_of(stack, "train/on-demand") if r["state_type"] == "CRASHED"]
    before = {tracked["info"]["run_id"] for tracked in mlflow_runs(stack)}
    assert len(before) == 3
    stack.execute("prefect-worker", "prefect", "flow-run", "retry", run["id"])
    done = wait_for("the retried training", lambda: finished(stack, run["id"]))
    assert done["state_type"] == "COMPLETED", done["state"]["message"]
    assert {tracked["info"]["run_id"] for tracked in mlflow_runs(stack)} == before
    told = [steps(stack, tracked) for tracked in mlflow_runs(stack, "FINISHED")]
    assert all(of_run == sorted(set(of_run)) for of_run in told)
    assert max(of_run[-1] for of_run in told) > KILL_AT


def test_the_training_that_lost_a_worker_is_tried_again_and_completes(stack: Stack) -> None:
    [run] = [r for r in runs_of(stack, "train/cluster") if r["run_count"]]
    done = wait_for("the training on two hosts", lambda: finished(stack, run["id"]))
    assert done["state_type"] == "COMPLETED", done["state"]["message"]
    tasks = stack.prefect("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert [task["run_count"] for task in tasks if task["name"].startswith("train")] == [2]
    assert any(c["RestartCount"] for c in stack.containers("dask-worker"))
    tracked = mlflow_runs(stack)[-1]
    assert tracked["info"]["status"] == "FINISHED"
    told = steps(stack, tracked)
    assert told == sorted(set(told))
    assert told[-1] > CLUSTER_KILL_AT


def test_two_runs_are_compared_by_the_names_of_the_services(stack: Stack) -> None:
    ids = [tracked["info"]["run_id"] for tracked in mlflow_runs(stack)[:2]]
    compare = f"quickdraw compare {' '.join(ids)} --store /data/store --allow-short"
    # In a folder without runs: what is compared comes from MLflow's files, by its server.
    told = stack.execute("dask-worker", "sh", "-c", f"cd /tmp && {compare}", seconds=300)
    assert "MAP@3" in told


def test_a_second_promotion_is_picked_up(stack: Stack) -> None:
    trained = mlflow_runs(stack, "FINISHED")[-1]["info"]["run_id"]
    promote = f"quickdraw promote {trained} --store /data/store --allow-short"
    stack.execute("dask-worker", "sh", "-c", f"cd /tmp && {promote}", seconds=300)
    # Whichever of the two is better: the alias moves.
    alias = {"name": "quickdraw", "alias": "champion", "version": "2"}
    stack.mlflow("registered-models/alias", alias)

    def served() -> bool:
        status, answer = stack.play("/api/guess", {"drawing": DRAWING})
        assert status == 200, answer  # not one request fails
        return bool(answer["model"]["name"] == "quickdraw@2")

    wait_for("the second champion in the game", served, 60)


def test_taken_down_and_up_again_everything_is_there(stack: Stack) -> None:
    """A training that is under way, too: it is told to end, and says that it did."""

    def everything() -> dict[str, Any]:
        deployments = ("pipeline/nightly", "train/on-demand", "train/cluster")
        runs = [run for name in deployments for run in runs_of(stack, name)]
        done = mlflow_runs(stack, "FINISHED")
        return {
            "flow runs": {r["id"]: r["run_count"] for r in runs if r["state_type"] in FINAL},
            "MLflow runs": {run["info"]["run_id"]: steps(stack, run) for run in done},
            "store": stack.execute("prefect-worker", "sha256sum", "/data/store/manifest.json"),
            "files": [
                stack.mlflow(f"artifacts/list?run_id={run['info']['run_id']}") for run in done
            ],
        }

    before = everything()
    assert len(before["flow runs"]) >= 3
    assert all(files["files"] for files in before["files"])
    under_way = training_beyond(stack, 3, TRAINING | {"optimizer": {"learning_rate": 0.001}})
    stack.compose("down", seconds=300)
    stack.compose("up", "--detach", "--wait", "--wait-timeout", "900", seconds=960)
    assert stack.prefect(f"flow_runs/{under_way}")["state_type"] == "CRASHED"
    assert len(mlflow_runs(stack, "KILLED")) == 1
    before["flow runs"][under_way] = 1
    assert everything() == before
