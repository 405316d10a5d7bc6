"""Whether everything that computes on a GPU does so here, rightly and how fast: under 8 minutes.

    python benchmarks/gpu_check.py [--out FOLDER] [--only STEP …]      (or: make gpu-check)

Needs this package with its extra `train`, of a checkout or a wheel (of this folder it needs
the files `gpu_check_*.py`), and one NVIDIA GPU or more; no network and no data, since it draws
doodles. Writes `gpu_check.json` and `gpu_check.md` into the folder, and prints the latter: please
send both, whatever they say.

Each step is a process of its own with a time limit of its own, so that one that fails, or hangs,
does not hide the others. `--device cpu` runs the same steps without a GPU: that tries this
program, not a GPU.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu_check_steps import STEPS
from gpu_check_work import Check, Found, prepare, run_command

TOTAL_SECONDS = 460
"""For all steps together."""
LEAST_SECONDS = 15
"""With less left, a step is not begun."""


def run_step(name: str, check: Check, limit: float) -> Found:
    """A step in a process of its own: its figures, or what went wrong; and how long it took."""
    answer = check.folder / "answer.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--device", check.device, "--step", name]
    command += ["--folder", str(check.folder), *(["--quick"] if check.quick else [])]
    begun = time.perf_counter()
    with (check.folder / "said.txt").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(limit)
            error = "" if process.returncode == 0 else f"it ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            error = f"it took more than {limit:.0f} s, and was ended"
        finally:
            end_group(process)
        said.seek(0)
        lines = said.read().strip().splitlines()
    found: Found = {"seconds": round(time.perf_counter() - begun, 1)}
    if answer.exists() and not error:
        return {"ok": True, **found, "found": json.loads(answer.read_text("utf-8"))}
    return {"ok": False, **found, "error": error, "output": lines[-12:]}


def end_group(process: subprocess.Popen[Any]) -> None:
    """Ends a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def machine(device: str) -> Found:
    """What this ran on."""
    packages = {}
    for name in ("quickdraw-workflow", "torch", "torchvision", "numba"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed as a package"
    found: Found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "device": device,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "packages": packages,
    }
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        said = run_command(query) if shutil.which("nvidia-smi") else "nvidia-smi is not installed"
        found["nvidia-smi"] = said.strip().splitlines()
        found["gpus"] = [
            f"{torch.cuda.get_device_name(n)}, "
            f"{torch.cuda.get_device_properties(n).total_memory / (1 << 30):.0f} GiB"
            for n in range(torch.cuda.device_count())
        ]
        found["cuda"] = torch.version.cuda
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a page of Markdown."""
    on = result["machine"]
    gpus = ", ".join(on.get("gpus", [])) or "the processor alone"
    packages = ", ".join(f"{name} {value}" for name, value in on["packages"].items())
    lines = [f"# GPU check: {gpus}", "", f"{on['date']}, Python {on['python']}, {packages}"]
    if "cuda" in on:
        drivers = "; ".join(on["nvidia-smi"])
        lines[-1] += f", CUDA {on['cuda']}, nccl {on['nccl']}, driver: {drivers}"
    lines += ["", "| step | result | seconds |", "| --- | --- | ---: |"]
    for name, step in result["steps"].items():
        said = "passed" if step["ok"] else f"**failed**: {step['error']}"
        lines.append(f"| {name} | {said} | {step['seconds']} |")
    for name, step in result["steps"].items():
        lines += ["", f"## {name}", ""]
        if not step["ok"]:
            lines += ["    " + line for line in step["output"]] or ["Nothing was said."]
        else:
            lines += table(step["found"])
    return "\n".join(lines) + "\n"


def table(found: Mapping[str, Any]) -> list[str]:
    """Figures as a table: one row a name, and one column for each figure that rows have."""
    rows = {name: row for name, row in found.items() if isinstance(row, Mapping)}
    if not rows:
        return ["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in found.items())]
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    head = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    return head + [
        f"| {name} | " + " | ".join(str(row.get(c, "")) for c in columns) + " |"
        for name, row in rows.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(), help="default: this folder")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--quick", action="store_true", help="too little work for its figures")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        check = Check(given.folder, given.device, given.quick)
        found = STEPS[given.step].run(check)
        (check.folder / "answer.json").write_text(json.dumps(found), "utf-8")
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU; --device cpu tries the same steps without one", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    result: Found = {"machine": machine(given.device), "steps": {}}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        check = Check(Path(folder), given.device, given.quick)
        prepare(check)
        for name in given.only:
            left = TOTAL_SECONDS - (time.perf_counter() - begun)
            limit = min(float(STEPS[name].seconds), left)
            if given.device == "cpu":  # however slow it is
                limit = 3.0 * STEPS[name].seconds
            print(f"{name}: at most {max(0, limit):.0f} s", file=sys.stderr, flush=True)
            if limit < LEAST_SECONDS:
                error = f"left out: the steps before it took all of {TOTAL_SECONDS} s"
                result["steps"][name] = {"ok": False, "seconds": 0, "error": error, "output": []}
            else:
                result["steps"][name] = run_step(name, check, limit)
            # After each step: what is known is kept, whatever becomes of the next.
            (given.out / "gpu_check.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
            (given.out / "gpu_check.md").write_text(markdown(result), "utf-8")
    print(markdown(result))
    return 0 if all(step["ok"] for step in result["steps"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
