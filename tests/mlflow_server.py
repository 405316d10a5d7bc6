"""A real MLflow server that tests start and kill."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quickdraw_core.launching.rendezvous import free_port


def wait_until_answering(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for a server that a process starts; fails with its log if the process ends."""
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)


@contextmanager
def mlflow_at(uri: str) -> Iterator[None]:
    """A block in which MLflow's own functions find an address, which MLflow also writes into the
    environment. Afterwards there is none: what `get_tracking_uri` said before is a default, and
    setting that would ask for it.
    """
    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)


@contextmanager
def serving_model(reference: str, uri: str, folder: Path) -> Iterator[str]:
    """The address of `mlflow models serve` of a model, in this environment."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", reference, "--host", "127.0.0.1", "--port", str(port)]
    settings = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    settings |= {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": _with_programs()}
    with (folder / "models.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_answering(f"{address}/ping", process, folder / "models.txt")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _with_programs() -> str:
    """A PATH on which MLflow finds the server's program, beside this interpreter."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


class MlflowServer:
    """A real MLflow server of one worker on a port of its own, to be started and killed."""

    def __init__(self, folder: Path, artifacts: str | None = None) -> None:
        self.folder = folder
        self.artifacts = artifacts or str(folder / "artifacts")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", self.artifacts]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | quiet,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        wait_until_answering(f"{self.uri}/health", self.process, self.folder / "server.txt")

    def kill(self) -> None:
        """Ends the server and its worker at once, in the middle of whatever they do."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
