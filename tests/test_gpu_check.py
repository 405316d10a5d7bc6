"""The check for GPUs, tried without one: a step that fails or hangs hides no other."""

import json
import subprocess
import sys
import time
from pathlib import Path

import gpu_check
import psutil
import pytest
from forkserver import real_python
from gpu_check_steps import STEPS
from gpu_check_work import Check

SCRIPT = Path(gpu_check.__file__)


def run_check(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [real_python(), str(SCRIPT), "--out", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


SCRIPTS = {
    "answers": "Path(sys.argv[6], 'answer.json').write_text('{\"images/s\": 7}')",
    "fails": "print('what was wrong'); sys.exit(3)",
    "hangs": (
        "import subprocess; child = subprocess.Popen(['sleep', '600'])\n"
        "Path(sys.argv[6], 'child').write_text(str(child.pid)); child.wait()"
    ),
    "answers, then crashes": (
        "Path(sys.argv[6], 'answer.json').write_text('{}'); os.kill(os.getpid(), 11)"
    ),
}


def test_a_step_that_fails_or_hangs_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, check = tmp_path / "step.py", Check(tmp_path, "cpu", quick=True)
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    monkeypatch.setattr(sys, "executable", real_python())
    steps = {}
    for name, code in SCRIPTS.items():
        script.write_text(f"import os, sys, time\nfrom pathlib import Path\n{code}\n")
        steps[name] = gpu_check.run_step(name, check, 1.0 if name == "hangs" else 60.0)
    assert [name for name, step in steps.items() if step["ok"]] == ["answers"]
    assert steps["answers"]["found"] == {"images/s": 7}
    assert steps["fails"]["output"] == ["what was wrong"]
    assert "more than 1 s" in steps["hangs"]["error"]
    child = int((tmp_path / "child").read_text())
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    page = gpu_check.markdown({"machine": gpu_check.machine("cpu"), "steps": steps})
    assert "| images/s | 7 |" in page
    assert page.count("**failed**") == 3
    assert "    what was wrong" in page


def test_figures_of_rows_with_unlike_columns_are_one_table() -> None:
    rows = gpu_check.table({"a": {"fp32": 1}, "b": {"fp32": 2, "bf16": 3}})
    assert rows == ["| | fp32 | bf16 |", "| --- | ---: | ---: |", "| a | 1 |  |", "| b | 2 | 3 |"]


@pytest.mark.services
def test_drawing_is_compared_and_written_down(tmp_path: Path) -> None:
    done = run_check(tmp_path, "--device", "cpu", "--quick", "--only", "draw")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert result["steps"]["draw"]["found"]["28 px"]["largest difference"] <= 1
    assert (tmp_path / "gpu_check.md").read_text() in done.stdout


@pytest.mark.services
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run_check(tmp_path)
    assert done.returncode == 2
    assert "torch sees no GPU" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.soak
def test_all_steps_pass_on_the_processor(tmp_path: Path) -> None:
    done = run_check(tmp_path, "--device", "cpu", "--quick")
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(result["steps"]) == list(STEPS)
    assert all(step["ok"] for step in result["steps"].values()), done.stdout
