"""The deployments that a team operates: what the file says, and what options lay over it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.deployments.config import DEPLOYMENTS, DeployConfig
from flows.deployments.deploy import deploy, laid_over, read, upcoming_times
from quickdraw_core.errors import ConfigError
from quickdraw_core.recipes import RecipedConfig, find_recipe
from quickdraw_core.training.config import TrainConfig


def entries(**options: Any) -> dict[str, dict[str, Any]]:
    """The deployments by flow and name, with options laid over them."""
    document = laid_over(read(DEPLOYMENTS), DeployConfig(**options))
    names = [f"{e['entrypoint'].rpartition('.')[2]}/{e['name']}" for e in document["deployments"]]
    return dict(zip(names, document["deployments"], strict=True))


def test_all_deployments_have_parameters_that_their_flows_take() -> None:
    made = {entry.name: entry for entry in deploy(DeployConfig(dry_run=True))}
    assert set(made) == {
        "pipeline/nightly",
        "pipeline/demo",
        "sweep/weekly",
        "sweep-row/pool",
        "clean/weekly",
        "ingest/on-demand",
        "train/on-demand",
        "train/gpu",
        "evaluate/on-demand",
    }
    assert made["pipeline/nightly"].schedule == "0 2 * * * UTC"
    assert made["sweep/weekly"].schedule is not None
    assert made["clean/weekly"].schedule == "0 6 * * 0 UTC"
    assert made["train/gpu"].pool == "gpu"


def test_a_training_on_dask_is_deployed_only_with_the_address_of_its_scheduler() -> None:
    assert "train/cluster" not in entries()
    [made] = [
        entry
        for entry in deploy(DeployConfig(dask="tcp://x:8786", dry_run=True))
        if entry.name == "train/cluster"
    ]
    assert made.pool == "cpu"
    asked = entries(dask="tcp://x:8786")["train/cluster"]["parameters"]["config"]
    config = RecipedConfig.parse(asked).whole()
    assert (config.hosts.nodes, config.hosts.dask) == (2, "tcp://x:8786")
    others = config.model_dump(exclude={"hosts", "hardware"})
    assert others == find_recipe("laptop").model_dump(exclude={"hosts", "hardware"})


def test_the_nightly_run_never_meets_itself() -> None:
    assert entries()["pipeline/nightly"]["concurrency_limit"] == 1


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("pipeline/nightly", "laptop"),
        ("pipeline/demo", "demo"),
        ("train/on-demand", "laptop"),
        ("train/gpu", "report"),
    ],
)
def test_trainings_are_those_of_the_recipes(name: str, recipe: str) -> None:
    parameters = entries()[name]["parameters"]
    asked = parameters.get("train") or parameters["config"]
    assert asked == {"recipe": recipe}
    assert RecipedConfig.parse(asked).whole() == find_recipe(recipe)


def test_what_stands_beside_a_recipe_is_laid_over_it() -> None:
    changes = {"epochs": 3, "augment": {"shear": 0.5}, "hosts": {"nodes": 1}, "model": "net"}
    found = RecipedConfig.parse({"recipe": "laptop340"} | changes).whole()
    assert found == find_recipe("laptop340").updated(changes)
    assert RecipedConfig.parse(changes).whole() == TrainConfig.parse(changes)
    assert RecipedConfig.model_validate(found).whole() == found


def test_a_form_of_the_parameters_lays_no_defaults_over_a_recipe() -> None:
    schema = RecipedConfig.model_json_schema()
    assert {"recipe", "epochs", "optimizer"} <= set(schema["properties"])
    for model in (schema, *schema["$defs"].values()):
        assert not any("default" in field for field in model["properties"].values()), model


def test_options_are_laid_over_what_they_name_and_nothing_else() -> None:
    plain = entries()
    changed = entries(
        cron="5 1 * * *",
        timezone="Europe/Berlin",
        pool="big",
        source=("a", "b"),
        dask="tcp://x:8786",
    )
    nightly = changed["pipeline/nightly"]
    assert nightly["schedules"][0]["cron"] == "5 1 * * *"
    assert nightly["schedules"][0]["timezone"] == "Europe/Berlin"
    assert nightly["parameters"]["ingest"]["source"] == ["a", "b"]
    assert nightly["parameters"]["ingest"]["dask"] == "tcp://x:8786"
    weekly = changed["sweep/weekly"]
    assert weekly["schedules"][0]["cron"] == plain["sweep/weekly"]["schedules"][0]["cron"]
    demo = changed["pipeline/demo"]
    assert demo["parameters"]["ingest"]["source"] == ["demo/csv"]
    assert {entry["work_pool"]["name"] for entry in changed.values()} == {"big", "gpu"}


def test_runs_work_in_the_home_folder(tmp_path: Path) -> None:
    document = laid_over(read(DEPLOYMENTS), DeployConfig(home=tmp_path))
    (step,) = document["pull"]
    (options,) = step.values()
    assert options == {"directory": str(tmp_path)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"epochs": 0}}, "epochs"),
        ({"train": {"epoch": 3}}, "epoch"),
        ({"train": {"recipe": "labtop"}}, "did you mean 'laptop'"),
        ({"train": {"recipe": 3}}, "recipe"),
        ({"ingest": {}}, "source"),
        ({"nothing": {}}, "nothing"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_made(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    document = read(DEPLOYMENTS)
    document["deployments"][0]["parameters"] |= change
    file = tmp_path / "deployments.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=message) as caught:
        deploy(DeployConfig(file=file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        *({"cron": cron} for cron in ("0 0 2 * * *", "0 2 * * * *", "0 2 * *", "0 2 31 2 *")),
        {"cron": "every night"},
        {"timezone": "Mars/Olympus"},
        {"timezone": "UTC+2"},
        {"file": Path("none.yaml")},
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        deploy(DeployConfig(**options))


@pytest.mark.parametrize(
    ("cron", "timezone", "times"),
    [
        ("0 2 * * *", "Europe/Berlin", ["Sun 10-25 02:00 +0200", "Mon 10-26 02:00 +0100"]),
        ("0 2 1 * 1", "UTC", ["Mon 10-26 02:00 +0000", "Sun 11-01 02:00 +0000"]),  # either day
        ("0 2 * * *", "Etc/GMT+2", ["Sun 10-25 02:00 -0200", "Mon 10-26 02:00 -0200"]),
    ],
)
def test_the_next_times_say_what_a_schedule_means(
    cron: str, timezone: str, times: list[str]
) -> None:
    now = datetime(2026, 10, 24, 12, tzinfo=UTC)
    upcoming = upcoming_times("x", cron, timezone, now)
    assert [f"{time:%a %m-%d %H:%M %z}" for time in upcoming[:2]] == times
    assert len(upcoming) == 3


def test_without_a_server_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ConfigError, match="PREFECT_API_URL"):
        deploy(DeployConfig())
