"""The command line as a process, away from the user's own Prefect and MLflow."""

import os
import subprocess
import sys
from pathlib import Path

from session import prefect_api, prefect_python, python


def command(prefect: bool = False) -> list[str]:
    """The words before a command's own: of a forked process, or a real one in some suites.
    prefect: whether it is to be a flow.
    """
    is_forked = prefect and sys.executable == python()
    return [prefect_python() if is_forked else sys.executable, "-m", "quickdraw_core.cli"]


def environment_of(cwd: Path) -> dict[str, str]:
    """An environment away from the user's own Prefect and MLflow, without a server."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
    return environment | {"PREFECT_HOME": str(cwd / ".prefect")}


def quickdraw(
    *arguments: object, cwd: Path, timeout: int = 300, prefect: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs `quickdraw …` in `cwd`. prefect: with the server that all tests share, as the demo."""
    is_flow = prefect or "demo" in arguments
    server = {"PREFECT_API_URL": prefect_api()} if is_flow else {}
    return subprocess.run(
        [*command(is_flow), *map(str, arguments)],
        cwd=cwd,
        env=environment_of(cwd) | server,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
