"""Which heavy libraries each command loads: those that it uses, and no other."""

import csv
import os
import subprocess
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


def loaded_by(folder: Path, *words: object) -> dict[str, set[str]]:
    """The heavy libraries that a command and its child processes loaded, by command line.

    words: of a command, or `-c` and a program.
    """
    reported, site = folder / "reported", folder / "site"
    reported.mkdir(exist_ok=True)
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(REPORTING)
    path = os.pathsep.join([str(site), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [real_python(), *(() if words[0] == "-c" else PROGRAM), *map(str, words)],
        cwd=folder,
        env=environment_of(folder) | {"PYTHONPATH": path, "REPORTED": str(reported)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for report in reported.iterdir():
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
    "clean --dry-run --store {store}": set(),
    "deploy --dry-run": NUMBA | {"prefect", "torch"},  # all flows, whose parameters it checks
}


@pytest.mark.parametrize(("words", "allowed"), COMMANDS.items(), ids=COMMANDS)
def test_a_command_loads_what_it_uses(
    words: str,
    allowed: set[str],
    csv_folder: Path,
    store: Store,
    trained: Path,
    tmp_path: Path,
) -> None:
    with (csv_folder / "sun.csv").open(newline="") as file:
        rows = list(csv.reader(file))[:4]
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    lines = [f"{row[2]},sun star envelope" for row in rows[1:]]
    (tmp_path / "submission.csv").write_text("\n".join(["key_id,word", *lines]) + "\n")
    places = {"csv": csv_folder, "store": store.path, "run": trained, "test": "test.csv"}
    places |= {"submission": "submission.csv"}
    loaded = loaded_by(tmp_path, *(word.format(**places) for word in words.split()))
    assert loaded
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
