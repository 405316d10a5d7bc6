"""Whether a Prefect server is configured, as Prefect itself would find it."""

import json
import subprocess
from pathlib import Path

import pytest
from forkserver import real_python

from flows.configured import is_server_named, results_folder

URL = "http://127.0.0.1:4200/api"
PROFILES = f"""
active = "here"
[profiles.here]
PREFECT_API_URL = "{URL}"
[profiles.alone]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"
"""
FILES = {
    "nothing": {},
    "profile": {"home/profiles.toml": PROFILES},
    "broken": {"home/profiles.toml": "active = ", "prefect.toml": "api", ".env": "\0"},
    "dotenv": {".env": f"OTHER=1\nPREFECT_API_URL={URL}\n"},
    "prefect": {"prefect.toml": f'[api]\nurl = "{URL}"\n'},
    "project": {"pyproject.toml": f'[tool.prefect.api]\nurl = "{URL}"\n'},
    "another": {"pyproject.toml": "[tool.ruff]\nline-length = 99\n"},
}
CASES = [
    ("nothing", {}, False),
    ("nothing", {"PREFECT_API_URL": URL}, True),
    ("nothing", {"PREFECT_API_URL": ""}, False),
    ("profile", {}, True),
    ("profile", {"PREFECT_PROFILE": "alone"}, False),
    ("profile", {"PREFECT_PROFILE": "nosuchprofile"}, False),
    ("broken", {}, False),
    ("dotenv", {}, True),
    ("prefect", {}, True),
    ("project", {}, True),
    ("another", {}, False),
]


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    for name, text in FILES[request.param].items():
        (tmp_path / name).write_text(text)
    return tmp_path / "home"


@pytest.mark.parametrize(("home", "environment", "named"), CASES, indirect=["home"])
def test_a_server_is_found_wherever_prefect_looks(
    home: Path, environment: dict[str, str], named: bool
) -> None:
    assert is_server_named({"PREFECT_HOME": str(home)} | environment) == named


@pytest.mark.parametrize("home", ["dotenv"], indirect=True)
def test_results_are_found_where_prefect_keeps_them(home: Path) -> None:
    here = {"PREFECT_HOME": str(home)}
    assert results_folder(here) == home / "storage"
    kept = {"PREFECT_RESULTS_LOCAL_STORAGE_PATH": "/data/results"}
    assert results_folder(here | kept) == Path("/data/results")
    (home.parent / ".env").write_text("PREFECT_RESULTS_LOCAL_STORAGE_PATH=/other\n")
    assert results_folder(here) == Path("/other")


def test_a_user_without_a_home_has_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "expanduser", _no_home)
    assert not is_server_named({})


def _no_home(_: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_prefect_finds_the_same(tmp_path: Path) -> None:
    """In one process of its own for all cases, since Prefect reads its settings at its import."""
    code = (
        "import json, os, sys\n"
        "from prefect.settings.context import get_current_settings\n"
        "from prefect.settings.models.root import Settings\n"
        "for folder, environment in json.loads(sys.argv[1]):\n"
        "    os.chdir(folder)\n"
        "    before = dict(os.environ)\n"
        "    os.environ.update(environment, PREFECT_HOME=folder + '/home')\n"
        "    print(bool(Settings().api.url))\n"
        "    os.environ.clear(); os.environ.update(before)\n"
    )
    cases = [case for case in CASES if case[0] != "broken"]  # which Prefect refuses
    asked = []
    for number, (files, environment, _) in enumerate(cases):
        folder = tmp_path / str(number)
        (folder / "home").mkdir(parents=True)
        for name, text in FILES[files].items():
            (folder / name).write_text(text)
        asked.append((str(folder), environment))
    told = subprocess.run(
        [real_python(), "-W", "ignore", "-c", code, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert told.stdout.split() == [str(named) for *_, named in cases], told.stderr
