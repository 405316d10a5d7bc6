"""docker-compose.yml: what can be said of it without an engine. `test_stack.py` starts it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine import PASSWORDS, ROOT
from stack import compose_program

FILE = ROOT / "docker-compose.yml"
GPU_FILE = ROOT / "infra" / "compose.gpu.yml"
EXAMPLE = ROOT / ".env.example"
DOCKERFILE = ROOT / "infra" / "Dockerfile"
OUR_IMAGES = ("quickdraw-workflow:slim", "quickdraw-workflow:full")

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
LASTING = [name for name, service in SERVICES.items() if service["restart"] != "no"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return compose_program(tmp_path_factory.mktemp("compose"))


def config(program: list[str], folder: Path, *options: str, **env: str) -> tuple[int, str]:
    """`docker compose config` with a .env of these variables: exit code, all that it says."""
    env_file = folder / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    command = [*program, "--env-file", str(env_file), *options, "config", "--quiet"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_files_follow_the_schema_of_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(FILE), str(GPU_FILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [(), ("--profile", "s3", "--profile", "redis"), ("-f", str(FILE), "-f", str(GPU_FILE))],
    ids=["alone", "all profiles", "with GPUs"],
)
def test_compose_takes_them(program: list[str], tmp_path: Path, options: tuple[str, ...]) -> None:
    code, said = config(program, tmp_path, *options, **dict.fromkeys(PASSWORDS, "x"))
    assert (code, said) == (0, "")


@pytest.mark.parametrize("missing", PASSWORDS)
@pytest.mark.parametrize("empty", [True, False], ids=["empty", "not there"])
def test_it_does_not_start_without_a_password(
    program: list[str], tmp_path: Path, missing: str, empty: bool
) -> None:
    given = dict.fromkeys(PASSWORDS, "x")
    given.pop(missing)
    code, said = config(program, tmp_path, **given, **({missing: ""} if empty else {}))
    assert code != 0
    assert f"required variable {missing} is missing a value: set it in .env" in said


def test_the_example_as_it_is_starts_nothing(program: list[str], tmp_path: Path) -> None:
    lines = [line for line in EXAMPLE.read_text().splitlines() if re.match("[A-Z]", line)]
    given = dict(line.split("=", 1) for line in lines)
    assert set(given) == set(PASSWORDS)
    assert set(given.values()) == {""}
    code, _ = config(program, tmp_path, **given)
    assert code != 0


def test_the_example_names_every_variable() -> None:
    told = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.M))
    passed_on = {
        name
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }
    used = set(re.findall(r"\$\{([A-Z_]+)", FILE.read_text() + GPU_FILE.read_text()))
    assert told - {"COMPOSE_PROFILES"} == used | passed_on


def test_no_secret_has_a_default() -> None:
    defaults = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*):?-([^}]+)\}", FILE.read_text())
    assert defaults == [("REDIS_PASSWORD", "memory://")]  # no password: the address without one


def test_every_port_is_this_machines_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(isinstance(port, str) and port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_says_when_it_is_ready_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["healthcheck"]["start_period"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_may_do_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["read_only"]
    assert service["init"] or name == "postgres"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service)
    # RustFS's image is one of a user's own, as are ours.
    assert service.get("user", "root") != "root" or service["image"] in (
        *OUR_IMAGES,
        "rustfs/rustfs:1.0.0",
    )


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_starts_before_what_it_needs_is_ready(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        one_shot = SERVICES[needed]["restart"] == "no"
        wanted = "service_completed_successfully" if one_shot else "service_healthy"
        assert how["condition"] == wanted, needed
        # What is in a profile may not be there.
        optional = set(SERVICES[needed].get("profiles", [])) - set(
            SERVICES[name].get("profiles", [])
        )
        assert how.get("required", True) != bool(optional), needed


def test_images_are_pinned_and_ours_are_built_once() -> None:
    foreign = {service["image"] for service in SERVICES.values()} - set(OUR_IMAGES)
    for image in [*foreign, *re.findall(r"^FROM (\S+:\S+)", DOCKERFILE.read_text(), re.M)]:
        assert re.search(r":\d", image), image
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert sorted(built) == sorted(OUR_IMAGES)


def test_the_images_need_no_new_builder_and_no_root() -> None:
    text = DOCKERFILE.read_text()
    assert not re.search(r"--mount|--chmod|--chown|<<|^# syntax", text, re.M)
    stages = re.split(r"^FROM .* AS ", text, flags=re.M)[1:]
    last_lines = {stage.split()[0]: stage.strip().splitlines()[-2:] for stage in stages}
    assert all("USER quickdraw" in last_lines[name] for name in ("slim", "full"))


def test_passwords_stay_out_of_git_and_of_the_images() -> None:
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(line.startswith("!.env") for line in ignored)


def test_the_game_reads_the_nightly_store_and_cannot_change_it() -> None:
    game = SERVICES["play"]
    assert "data:/data:ro" in game["volumes"]
    deployments = yaml.safe_load((ROOT / "infra" / "prefect.yaml").read_text())["deployments"]
    [nightly] = [each for each in deployments if each["name"] == "nightly"]
    store = nightly["parameters"]["ingest"]["store"]
    assert game["command"][-2:] == ["--store", f"${{PLAY_STORE:-/data/{store}}}"]


def test_nobody_is_told_of_it() -> None:
    for name, service in SERVICES.items():
        if service["image"] in OUR_IMAGES:
            environment = service["environment"]
            assert environment["DO_NOT_TRACK"] == "true", name
            assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true", name
            assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false", name
