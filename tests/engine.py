"""A private docker engine with the images of docker-compose.yml, for the tests of the stack.

The tools that make it and its base images lie beside a checkout, in CI as on developers' machines;
users have an engine of their own, and no need of this. To have one ready before there is a .venv
(nothing but Python is needed), and kept:

    python3 tests/engine.py start DIR
    QUICKDRAW_STACK_ENGINE=DIR make stack-test
    python3 tests/engine.py stop DIR
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSWORDS = ("POSTGRES_PASSWORD", "PREFECT_DB_PASSWORD", "MLFLOW_DB_PASSWORD")


def tools() -> Path | None:
    """`stack-engine.sh`, if it is there; QUICKDRAW_STACK_TOOLS may name its folder."""
    told = os.environ.get("QUICKDRAW_STACK_TOOLS")
    folder = Path(told) if told else ROOT.parent / "shared" / "tools" / "compose"
    program = folder / "stack-engine.sh"
    return program if program.is_file() else None


def start_engine(program: Path, folder: Path) -> None:
    """Starts it in a folder, which grows to some 15 GB, and makes the base images."""
    for name in ("deps", "compose_cli", "start", "base", "python_image"):
        _step(program, name, folder)
    with ThreadPoolExecutor() as both:
        list(both.map(lambda name: _step(program, name, folder), ("torch_image", "pg_image")))


def stop_engine(program: Path, folder: Path) -> None:
    """Ends it with all of its containers, and removes the folder."""
    if (folder / "pids").is_file():
        _step(program, "stop", folder)
    shutil.rmtree(folder, ignore_errors=True)


def build_images(engine: Path) -> None:
    """Builds the project's two images, or finds that they are built."""
    variables = environment_of(engine) | package_index() | dict.fromkeys(PASSWORDS, "unused")
    # One after the other: the classic builder shares nothing between builds at the same time.
    for service in ("prefect-server", "dask-scheduler"):
        _run(["docker", "compose", "build", service], variables)


def environment_of(engine: Path) -> dict[str, str]:
    """Variables by which docker's commands talk to a private engine."""
    return {
        **{name: value for name, value in os.environ.items() if "DOCKER" not in name},
        "DOCKER_HOST": f"unix://{engine}/docker.sock",
        "DOCKER_CONFIG": str(engine / "cfg"),
        "DOCKER_BUILDKIT": "0",
    }


def package_index() -> dict[str, str]:
    """Where this machine's pip gets packages from, if it has been told, for the builds."""
    found = {}
    for option in ("index-url", "extra-index-url"):
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"global.{option}"],
            capture_output=True,
            text=True,
        )
        urls = [url for url in done.stdout.split() if url.startswith("http")]
        if urls:
            found[f"PIP_{option.upper().replace('-', '_')}"] = " ".join(urls)
    return found


def _step(program: Path, name: str, folder: Path) -> None:
    _run([str(program), name, str(folder)], dict(os.environ))


def _run(command: list[str], variables: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout[-4000:]}{done.stderr[-4000:]}")


def main(action: str, folder: Path) -> None:
    """`start` or `stop`."""
    program = tools()
    if program is None:
        sys.exit("the tools that make a private docker engine are not beside this checkout")
    if action == "start":
        start_engine(program, folder)
        build_images(folder)
    else:
        stop_engine(program, folder)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]).resolve())
