"""Which heavy libraries each command loads: those that it uses, and no other."""

import csv
import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from bundles import made_bundle
from command_line import environment_of
from forkserver import real_python

from quickdraw_core.store.store import Store

HEAVY = {"torch", "torchvision", "mlflow", "prefect", "dask", "distributed", "pandas", "numba"}
HEAVY |= {"matplotlib", "duckdb", "scipy", "sklearn"}

NUMBA = {"numba", "scipy"}
"""numba looks for scipy's BLAS."""

REPORTING = """
import atexit, os, sys

def report():
    words = " ".join(sys.orig_argv[1:])
    with open(os.path.join(os.environ["REPORTED"], str(os.getpid())), "w") as file:
        file.write("\\n".join([words, *sys.modules]))

atexit.register(report)
"""
"""`sitecustomize`, which every interpreter runs at its start."""


PROGRAM = ("-m", "quickdraw_core.cli")
RUNNING = """
import atexit, json, os, runpy, sys, threading, traceback

def run(words, folder):
    os.chdir(folder)
    os.environ["REPORTED"] = os.path.join(folder, "reported")
    output = os.open("output", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv, sys.orig_argv = ["quickdraw", *words], [sys.executable, "-m", *words]
    code = 1
    try:
        runpy.run_module("quickdraw_core.cli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    sys.stdout.flush()
    if not code:
        atexit._run_exitfuncs()
    os._exit(code)

for name in sys.argv[1].split():
    __import__(name)
for words, folder in json.load(sys.stdin):
    child = os.fork()
    if not child:
        run(words, folder)
    _, status = os.waitpid(child, 0)
    if status:
        with open(os.path.join(folder, "output")) as output:
            sys.exit(f"quickdraw {' '.join(words)} ended with status {status}: {output.read()}")
atexit.unregister(sys.modules["sitecustomize"].report)
"""
"""Runs commands one after the other, each in a fork that has loaded what it may load anyway."""


def _environment(folder: Path) -> dict[str, str]:
    """Of an interpreter that reports what it has loaded to `reported` in a folder."""
    (folder / "reported").mkdir(exist_ok=True)
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(REPORTING)
    path = os.pathsep.join([str(folder / "site"), str(Path(__file__).parents[1])])
    reported = str(folder / "reported")
    return environment_of(folder) | {"PYTHONPATH": path, "REPORTED": reported}


def loaded_by(folder: Path, *words: object) -> dict[str, set[str]]:
    """The heavy libraries that a command and its child processes loaded, by command line.

    words: of a command, or `-c` and a program.
    """
    done = subprocess.run(
        [real_python(), *(() if words[0] == "-c" else PROGRAM), *map(str, words)],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return _reported(folder)


def _reported(folder: Path) -> dict[str, set[str]]:
    found = {}
    for report in (folder / "reported").iterdir():
        command, *modules = report.read_text().splitlines()
        found[command] = {name.partition(".")[0] for name in modules} & HEAVY
    return found


COMMANDS = {
    "--help": set(),
    "generate csv --classes 2 --rows 20": NUMBA,
    "ingest {csv} --store new": NUMBA | {"dask", "distributed"},
    "ingest {csv} --store {store} --set test_per_class=20": set(),  # nothing to do
    "describe {store}": set(),
    "verify {store}": NUMBA,
    "show {store} --class sun": NUMBA,
    "losses": set(),
    "losses --plot losses.png": {"torch", "matplotlib"},
    "inspect {run} --tracking-uri none": {"torch"},
    "evaluate {run} --store {store} --per-class 5 --tracking-uri none --report-dir report": (
        NUMBA | {"torch", "matplotlib"}
    ),
    "predict {run} {test} --tracking-uri none": NUMBA | {"torch"},
    "check-submission {submission} {test}": NUMBA,
    "pseudo-label {run} {test} --at-least 0.1 --tracking-uri none": NUMBA | {"torch"},
    "clean --dry-run --store {store}": set(),
    "deploy --dry-run": NUMBA | {"prefect", "torch"},  # all flows, whose parameters it checks
}


@pytest.fixture(scope="module")
def folders(
    csv_folder: Path, store: Store, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folder in which each of COMMANDS was run."""
    made, groups = {}, defaultdict(list)
    with (csv_folder / "sun.csv").open(newline="") as file:
        rows = list(csv.reader(file))[:4]
    lines = [f"{row[2]},sun star envelope" for row in rows[1:]]
    places = {"csv": csv_folder, "store": store.path, "run": trained, "test": "test.csv"}
    places |= {"submission": "submission.csv"}
    for command, allowed in COMMANDS.items():
        made[command] = folder = tmp_path_factory.mktemp("command")
        (folder / "reported").mkdir()
        with (folder / "test.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        (folder / "submission.csv").write_text("\n".join(["key_id,word", *lines]) + "\n")
        words = [word.format(**places) for word in command.split()]
        groups[" ".join(sorted(allowed & {"numba", "torch"}))].append((words, str(folder)))
    here = tmp_path_factory.mktemp("here")
    for loaded, commands in groups.items():
        subprocess.run(
            [real_python(), "-c", RUNNING, loaded],
            cwd=here,
            env=_environment(here),
            input=json.dumps(commands),
            text=True,
            check=True,
        )
    return made


@pytest.mark.parametrize(("words", "allowed"), COMMANDS.items(), ids=COMMANDS)
def test_a_command_loads_what_it_uses(
    words: str, allowed: set[str], folders: dict[str, Path]
) -> None:
    loaded = _reported(folders[words])
    assert loaded, (folders[words] / "output").read_text()
    assert set().union(*loaded.values()) <= allowed, loaded


def test_each_process_of_a_training_loads_what_it_uses(store: Store, tmp_path: Path) -> None:
    words = ["train", "--store", store.path, "--nproc", 1, "--tracking-uri", "none"]
    for change in ("epochs=0.1", "model=net", "image.side_px=24", "image.encoding=gray"):
        words += ["--set", change]
    loaded = loaded_by(tmp_path, *words)
    allowed = {
        "quickdraw_core.cli": {"torch"},  # by the checkpoint, at the end
        "quickdraw_core.training.preloaded_launcher": NUMBA | {"torch"},
    }
    for command, modules in loaded.items():
        _, _, rest = command.partition("-m ")
        assert modules <= allowed[rest.split()[0]], command


GUESSING = """
from pathlib import Path
from quickdraw_core.exporting.open_recognizer import open_recognizer
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.serving.recognizer import top_guesses
recognizer = open_recognizer({!r})
drawings = DrawingBatch.from_strokes([[([0, 255], [0, 255])]])
assert len(top_guesses(recognizer.log_probabilities(drawings), recognizer.label_map)[0]) == 3
"""


def test_a_bundle_guesses_without_torch_mlflow_and_dask(tmp_path: Path) -> None:
    # numba draws; onnxruntime loads its own things.
    made_bundle(tmp_path / "bundle")
    loaded = loaded_by(tmp_path, "-c", GUESSING.format(str(tmp_path / "bundle")))
    assert set().union(*loaded.values()) <= NUMBA


CUDA_COUNTED = """
import torch
import torch.cuda

def refused(*arguments):
    raise AssertionError("CUDA was begun")

torch._C._cuda_getDeviceCount = torch.cuda._lazy_init = refused
import quickdraw_core.training.preloaded_launcher
"""


def test_a_launcher_that_forks_its_ranks_does_not_begin_cuda() -> None:
    # A forked process cannot use CUDA where the one before it has begun it.
    subprocess.run([real_python(), "-c", CUDA_COUNTED], check=True, capture_output=True)
