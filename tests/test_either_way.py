"""A command that runs its stages itself, and one that is a flow on a Prefect server, do and say
the same.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import command, environment_of
from session import prefect_api

TRAIN = "train --set epochs=1 --set model=net --set image.side_px=24 --nproc 1 --run-dir run"
EVALUATE = "evaluate run --allow-short --per-class 20 --set guesses=3"
NO_MLFLOW = " --tracking-uri none"
STEPS = {
    "written": ("ingest csv --set test_per_class=20", 0, "store (written)"),
    "up to date": ("ingest csv --set test_per_class=20", 0, "nothing to do"),
    "refused": ("ingest csv --set salt=7", 2, "drawings would change sides"),
    "trained": (TRAIN + NO_MLFLOW, 0, "validation"),
    "finished": (TRAIN + NO_MLFLOW, 0, "finished before"),
    "in the way": (TRAIN + NO_MLFLOW + " --set epochs=2", 2, "other options, data or code"),
    "judged": (EVALUATE + NO_MLFLOW, 0, "held-out"),
    "judged before": (EVALUATE + NO_MLFLOW, 0, "held-out"),
    "left out": ("ingest csv bad --set test_per_class=20", 1, "1 class is left out of store"),
}


class Told(NamedTuple):
    """What a command said of itself."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def told(csv_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Told]]:
    """What each of STEPS said, one after the other, directly and as a flow."""
    found: dict[str, list[Told]] = {step: [] for step in STEPS}
    for api in (None, prefect_api()):
        way = {} if api is None else {"PREFECT_API_URL": api}
        folder = tmp_path_factory.mktemp("way")
        shutil.copytree(csv_folder, folder / "csv")
        (folder / "bad").mkdir()
        (folder / "bad" / "owl.csv").write_text("")
        for step, (words, *_) in STEPS.items():
            done = subprocess.run(
                [*command(prefect=api is not None), *words.split(), "--quiet"],
                cwd=folder,
                env=environment_of(folder) | way,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
            out, err = (
                _plain(text).replace(str(folder), "…") for text in (done.stdout, done.stderr)
            )
            found[step].append(Told(done.returncode, out, err))
    return found


def _plain(text: str) -> str:
    """Without what differs from run to run: speeds."""
    return re.sub(r"[\d,.]+( a second|% of the time)", r"…\1", text)


@pytest.mark.parametrize("step", STEPS)
def test_a_command_says_the_same_directly_and_as_a_flow(
    step: str, told: dict[str, list[Told]]
) -> None:
    directly, as_flow = told[step]
    _, code, words = STEPS[step]
    assert directly.code == code, directly
    assert words in directly.out + directly.err
    assert as_flow == directly
