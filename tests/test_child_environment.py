"""Processes that are started import nothing from the folder that they work in."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment_of
from forkserver import real_python
from surroundings import own_environment

from quickdraw_core.ingest.cluster import cluster
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.system.child_environment import SAFE_PATH, child_environment

ROOT = Path(__file__).resolve().parents[1]
SHADOWED = sorted(name for name in sys.stdlib_module_names if not name.startswith("_"))


def shadow_the_standard_library(folder: Path) -> Path:
    """Files with the names of all its modules, as users have some of them beside their data. Each
    leaves its name in the returned file when it is imported.
    """
    said = folder / "imported.txt"
    for name in SHADOWED:
        line = f"open({str(said)!r}, 'a').write({name + ' '!r})\nraise SystemExit(77)\n"
        (folder / f"{name}.py").write_text(line)
    return said


@pytest.mark.parametrize("python", [sys.executable, real_python()], ids=["forked", "real"])
@pytest.mark.parametrize("words", [["-m", "mine"], ["-c", "import mine"]])
def test_a_safe_path_has_no_working_folder(python: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('run')")

    def run(environment: dict[str, str]) -> tuple[int, str]:
        command = [python, *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip()

    unsafe = {name: text for name, text in os.environ.items() if name not in SAFE_PATH}
    assert run(unsafe) == (0, "run")
    assert run(child_environment()) == (1, "")


def test_every_python_that_is_started_gets_an_environment() -> None:
    """A call that starts `sys.executable` names its environment; `environment_of` and
    `child_environment` make it.
    """
    places = []
    for folder in ("quickdraw_core", "flows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source)):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr in ("Popen", "run") and "subprocess" in ast.unparse(node.func):
                    places.append((path.name, {word.arg for word in node.keywords}))
    others = {name for name, options in places if "env" not in options}
    assert others == {"environment.py", "gpus.py", "provenance.py"}  # scontrol, nvidia-smi, git
    assert len(places) > 4


def test_dasks_processes_have_a_safe_path(tmp_path: Path) -> None:
    import dask

    values = {"source": tmp_path, "store": tmp_path / "store", "dask": "processes", "workers": 1}
    # Dask's nanny sets in this process, too, what its workers are to have.
    with own_environment(), cluster(IngestConfig.parse(values)):
        for name in SAFE_PATH:
            os.environ.pop(name, None)
        given = dask.config.get("distributed.nanny.pre-spawn-environ")
    assert SAFE_PATH.items() <= given.items()


@pytest.mark.services  # servers, ranks and workers, all of them interpreters of their own
def test_a_pipeline_runs_beside_files_named_as_modules(csv_folder: Path, tmp_path: Path) -> None:
    said = shadow_the_standard_library(tmp_path)
    words = ["pipeline", csv_folder, "--dask", "processes", "--recipe", "demo", "--nproc", "2"]
    for change in (
        *("train.model=net", "train.image.side_px=24", "train.epochs=1", "evaluate.ranks=2"),
        *("train.global_batch_size=64", "train.micro_batch_size=32", "ingest.workers=1"),
    ):
        words += ["--set", change]
    command = [real_python(), "-P", "-m", "quickdraw_core.cli", *map(str, words), "--allow-short"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not said.exists(), said.read_text()
    assert done.returncode == 0, done.stderr
