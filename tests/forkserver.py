"""Python processes that start at once: forked from one that has imported the heavy libraries.

torch, MLflow and what Prefect needs take ten seconds of a core to import. Most tests start
processes that need them: commands, torch's launcher, ranks, servers. While a `ForkServer` is open,
`sys.executable` is a small program that asks the server to fork, and that stands for the forked
process: same arguments, environment, working folder and open files; it ends with its exit status,
and hands signals on; if it is killed, so is the forked process, and if it leads a session of its
own (`start_new_session`), so is all that the forked process started.

A test of what happens to *processes* (a kill, a parent's death, the time of an import) uses
`real_python` instead.
"""

import atexit
import gc
import inspect
import marshal
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from fcntl import F_GETFL, F_SETFL, F_SETOWN, fcntl
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple, NoReturn

from forkclient import FORWARDED, inherited

REAL_PYTHON = "QUICKDRAW_TEST_REAL_PYTHON"
"""Environment variable: the interpreter that `sys.executable` was before."""
PROGRAM = "QUICKDRAW_TEST_PYTHON"
"""Environment variable: the program that stands for the interpreter."""
COVERED = "QUICKDRAW_TEST_COVERED"
"""Environment variable of the server: coverage is measured."""
CLIENT = Path(__file__).with_name("forkclient.py")
THIRD_PARTY = (
    *("torch", "torch.distributed.run", "torch.distributed.elastic.multiprocessing.api"),
    *("torch.distributed.elastic.agent.server.local_elastic_agent", "torch.export"),
    *("torch._dynamo", "torch.nn.parallel", "torchvision", "torchvision.models"),
    *("mlflow", "mlflow.tracking", "mlflow.pytorch", "mlflow.store.tracking.sqlalchemy_store"),
    *("numba", "pandas", "pyarrow.parquet", "pyarrow.compute", "pyarrow.dataset", "duckdb"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.Image", "scipy.special"),
    *("pydantic", "pydantic_settings", "sqlalchemy.ext.asyncio", "fastapi", "httpx", "uvicorn"),
    *("requests", "typer", "rich.progress", "rich.table", "jinja2", "docker", "cryptography"),
    *("tornado.web", "msgpack", "psutil", "yaml", "threadpoolctl", "websockets", "apprise"),
    *("griffe", "dateparser", "jsonschema", "graphviz", "anyio", "aiosqlite", "alembic"),
    *("opentelemetry.trace", "opentelemetry.sdk.trace", "fsspec", "isal.igzip", "coverage"),
)
"""Not Prefect and Dask themselves: they read their settings when they are imported."""
DECIDED_AT_START = (
    *("PYTHON", "LC_", "LANG", "TZ", "LD_", "NUMBA_"),
    *("ATEN_", "ONEDNN_", "GOMP_", "OMP_WAIT"),
)
"""Variables that the interpreter, or a library above, reads when it starts.

``MALLOC_`` is not among them: the launcher sets it for every rank, and it changes speed alone."""
HONOURED = ("PYTHONPATH", "PYTHONSAFEPATH")
"""Those of them that a forked process goes by: they decide `sys.path`."""


LEDGER = "QUICKDRAW_TEST_LEDGER"
"""Environment variable of a process: a file that its processor seconds are added to."""


class Client(NamedTuple):
    """Who waits for a forked process."""

    connection: socket.socket
    ledger: str | None
    process: int
    leads: bool
    """Whether it was started in a session of its own."""

    @classmethod
    def at(cls, connection: socket.socket, ledger: str | None) -> "Client":
        """The client at the other end of a connection."""
        process = int.from_bytes(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder
        )
        try:
            return cls(connection, ledger, process, os.getsid(process) == process)
        except ProcessLookupError:
            return cls(connection, ledger, process, False)

    def is_gone(self) -> bool:
        """Whether it has ended before the forked process."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


PROJECT = (
    *("quickdraw_core.cli", "quickdraw_core.training.rank", "quickdraw_core.launching.train"),
    *("quickdraw_core.inference.predict_rank", "quickdraw_core.evaluation.run_evaluation"),
    *("quickdraw_core.promotion.promote", "quickdraw_core.challenge.submission"),
    *("quickdraw_core.evaluation.publish", "quickdraw_core.tracking.logged_model"),
    *("quickdraw_core.tracking.delivery", "quickdraw_core.tracking.system_metrics"),
    *("quickdraw_core.sweep.run", "quickdraw_core.sources.fetch", "quickdraw_core.store.verify"),
    *("quickdraw_core.store.describe", "quickdraw_core.formats.readers"),
    *("quickdraw_core.loading.show", "quickdraw_core.sources.doodles.generator"),
)
"""Modules of the project, with all that they import. None of them imports Prefect or Dask."""
QUIET = {"DASK_LOGGING__DISTRIBUTED": "error", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
"""As a command has it before it imports them (`cli.py`)."""
FLOWS = ("flows.pipeline", "flows.sweep", "flows.compare", "flows.reruns.again")
"""Those that do, for commands that are flows."""


def real_python() -> str:
    """The interpreter itself, whether or not a fork server is open."""
    return os.environ.get(REAL_PYTHON, sys.executable)


class ForkServer:
    """A running server. program: what stands for the interpreter.

    modules: to be imported besides those above. folder: for its files; then the server does not
    end with who started it, but has to be killed, by the id of its `process`.
    """

    def __init__(self, modules: Sequence[str] = (), folder: Path | None = None) -> None:
        self._modules, self._outlives = modules, folder is not None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="forks-"))
        self.program = self._folder / "python"
        words = [real_python(), "-I", "-S", str(CLIENT), str(self._folder / "socket")]
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.program.chmod(0o755)
        # Whoever asks before the server's imports are done waits in the queue.
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self._folder / "socket"))
            listening.listen(128)
            self._process = self._start(listening.fileno())

    def _start(self, listening: int) -> "subprocess.Popen[bytes]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        if environment.keys() != os.environ.keys():  # each forked process measures itself
            environment[COVERED] = "1"
        environment |= QUIET if self._modules else {}
        asked: int | IO[bytes] = subprocess.PIPE
        with ExitStack() as opened:
            log = opened.enter_context((self._folder / "log").open("wb"))
            if self._outlives:  # a pipe whose other end it holds itself, which never ends
                os.mkfifo(self._folder / "stdin")
                asked = os.open(self._folder / "stdin", os.O_RDWR)
                opened.callback(os.close, asked)
            return subprocess.Popen(
                [sys.executable, __file__, str(listening), str(self.program), *self._modules],
                env=environment | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
                pass_fds=[listening],
                stdin=asked,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def process(self) -> int:
        """The server's process id."""
        return self._process.pid

    def stop(self) -> None:
        """Ends the server and every process that it forked."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:  # a short run: it still imports, and has forked nothing
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


# --- the server's own process


def serve(file: str, program: str, *modules: str) -> NoReturn:
    """Forks for who asks at a socket, open as `file`, until standard input ends. modules: to be
    imported before, too.
    """
    listening = socket.socket(fileno=int(file))
    for name in THIRD_PARTY:
        with suppress(ImportError):
            __import__(name)
    if COVERED not in os.environ:  # else lines that run at import would count as never run
        for name in (*PROJECT, *modules):
            __import__(name)
        _load_compiled()
    import compiling

    compiling.COMPILING.seconds = 0.0  # in each process from its fork on
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    sys.executable = os.environ.get(PROGRAM, program)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    clients: dict[int, Client] = {}
    while True:
        ready = select.select([0, listening, woken], [], [])[0]
        if 0 in ready and not os.read(0, 1):
            break
        if woken in ready:
            os.read(woken, 1 << 16)
            _report_ended(clients)
        if listening in ready:
            client = listening.accept()[0]
            try:
                asked, files = _received(client)
            except (OSError, EOFError):  # it has ended, or is no client
                client.close()
                continue
            with suppress(OSError):
                child = os.fork() if _is_served(asked) else -1
                if child == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listening.close()
                    for other in clients.values():
                        other.connection.close()
                    os.close(woken)
                    os.close(wake)
                    become(asked, files, client)
                if child > 0:  # first, as the client may be gone
                    clients[child] = Client.at(client, asked["environment"].get(LEDGER))
                for file in files:
                    os.close(file)
                client.sendall(max(child, 0).to_bytes(8, "little"))
                if child < 0:
                    client.close()
    for child in clients:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    os._exit(0)


def _load_compiled() -> None:
    """Loads the compiled code that numba has kept of the project's functions."""
    from numba.core.dispatcher import Dispatcher

    for name, module in list(sys.modules.items()):
        if not name.startswith("quickdraw_core."):
            continue
        for value in list(vars(module).values()):
            if isinstance(value, Dispatcher) and value.__module__ == name:
                with suppress(AttributeError, OSError):
                    for signature, *_ in value._cache._cache_file._load_index():
                        value.compile(signature)


def _received(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a client asks for, and its open files."""
    client.settimeout(10)
    head, files, _, _ = socket.recv_fds(client, 8, 250)
    try:
        left = int.from_bytes(head, "little")
        parts = []
        while left:
            part = client.recv(left)
            if not part:
                raise EOFError
            parts.append(part)
            left -= len(part)
    except (OSError, EOFError):
        for file in files:
            os.close(file)
        raise
    client.settimeout(None)
    return marshal.loads(b"".join(parts)), files


def _is_served(asked: dict[str, Any]) -> bool:
    """Whether a process forked from this one would be as one that who asks starts."""

    def decided(variables: Mapping[str, str]) -> dict[str, str]:
        found = {k: v for k, v in variables.items() if k.startswith(DECIDED_AT_START)}
        return {k: v for k, v in found.items() if k not in HONOURED}

    if asked["inherited"] != inherited():
        return False
    return decided(asked["environment"]) == decided(os.environ)


def _report_ended(clients: dict[int, Client]) -> None:
    while True:
        try:
            child, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        client = clients.pop(child, None)
        if client is None:
            continue
        if client.leads and status == signal.SIGKILL and client.is_gone():
            _kill_session(child, clients)
        _write(client.ledger, used.ru_utime + used.ru_stime)
        with suppress(OSError):
            client.connection.sendall(status.to_bytes(8, "little"))
        client.connection.close()


def _write(ledger: str | None, seconds: float) -> None:
    """Adds processor seconds to who started a process, or takes off what does not count."""
    if ledger:
        with suppress(OSError), open(ledger, "a") as file:  # noqa: PTH123
            file.write(f"{seconds}\n")


def _kill_session(session: int, clients: Mapping[int, Client]) -> None:
    """Kills what a forked process started, and what that started in turn."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(process := int(folder.name)) == session:
                os.kill(process, signal.SIGKILL)
                for child in [c for c, client in clients.items() if client.process == process]:
                    _kill_session(child, clients)


# --- a forked process


def become(asked: dict[str, Any], files: list[int], client: socket.socket) -> NoReturn:
    """Turns this process into the one that was asked for, runs it, and ends."""
    code = 1
    try:
        os.setsid()
        _take_files(asked["files"], files, client)
        _die_with(client)
        os.chdir(asked["cwd"])
        os.umask(asked["umask"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        for number in FORWARDED:
            ours = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in asked["ignored"] else ours)
        signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked"])
        _as_started()
        code = _run(asked["arguments"])
        _write(asked["environment"].get(LEDGER), -sys.modules["compiling"].COMPILING.seconds)
    except BaseException:  # noqa: BLE001 — nothing may go back into the server's loop
        traceback.print_exc()
    finally:
        _end(code)


def _take_files(numbers: list[int], files: list[int], client: socket.socket) -> None:
    """Opens the client's files under its numbers."""
    high = max([*numbers, 2]) + 1
    kept = os.open(os.devnull, os.O_RDONLY)
    moved = [fcntl(file, 1030, max(high, kept + 1)) for file in files]  # F_DUPFD_CLOEXEC
    ours = fcntl(client.fileno(), 1030, high)
    client.close()
    client.__init__(fileno=ours)
    for file in files:
        os.close(file)
    os.close(kept)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)


def _die_with(client: socket.socket) -> None:
    """Has the kernel kill this process when its client is gone, by the end of their connection."""
    set_signal = 10  # F_SETSIG
    fcntl(client, F_SETOWN, os.getpid())
    fcntl(client, set_signal, signal.SIGKILL)
    fcntl(client, F_SETFL, fcntl(client, F_GETFL) | os.O_ASYNC)
    with suppress(BlockingIOError):
        if client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
            os.kill(os.getpid(), signal.SIGKILL)
    global _connection
    _connection = client  # open as long as this process


_connection: socket.socket | None = None


def _as_started() -> None:
    """What an interpreter sets up when it starts, and libraries when they are imported."""
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        buffering = 1 if number == 2 or os.isatty(number) else -1
        errors = "backslashreplace" if number == 2 else "strict"
        file = open(number, mode, buffering, "utf-8", errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    import random

    import numpy as np
    import torch

    random.seed()
    np.random.seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(threads) if threads.isdecimal() else len(os.sched_getaffinity(0)))
    if "flows" in sys.modules:
        sys.meta_path.insert(0, _ImportedFlows())
    if any(name.startswith("COVERAGE_PROCESS") for name in os.environ):
        import coverage

        coverage.process_startup()


class _ImportedFlows(MetaPathFinder, Loader):
    """Gives a process the flows that were imported before the fork, at the moment at which it
    imports them; and Prefect, which they import, the settings of that moment.
    """

    def __init__(self) -> None:
        names = [name for name in sys.modules if name.partition(".")[0] == "flows"]
        self._modules = {name: sys.modules.pop(name) for name in names}

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Of the package of flows."""
        return ModuleSpec(fullname, self, is_package=True) if fullname == "flows" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The package, as it was."""
        return self._modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Prefect does all of this when it is imported."""
        from prefect.context import refresh_global_settings_context
        from prefect.logging import configuration

        sys.meta_path.remove(self)
        sys.modules.update(self._modules)
        refresh_global_settings_context()
        configuration.PROCESS_LOGGING_CONFIG = {}
        configuration.setup_logging()


def _known_to_inspect() -> None:
    """Torch's launcher looks at its call stack again and again, and `inspect` goes through all
    imported modules for each frame whose file it cannot find.
    """
    sys.modules["forkserver"] = sys.modules["__main__"]
    inspect.modulesbyfile[str(Path(__file__).resolve())] = "forkserver"
    for frozen in ("runpy", "importlib._bootstrap", "importlib._bootstrap_external"):
        name = os.path.abspath(f"<frozen {frozen}>")  # noqa: PTH100 — as inspect names it
        inspect.modulesbyfile[name] = frozen


def _run(arguments: list[str]) -> int:
    """Runs `[-u] -m module …`, `-c code …` or `file …`; the exit code."""
    ours = str(Path(__file__).parent)
    sys.path[:] = [entry for entry in sys.path if entry != ours]
    sys.path[:0] = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    is_safe = bool(os.environ.get("PYTHONSAFEPATH"))
    unbuffered = arguments[0] == "-u"
    if unbuffered:
        sys.stdout.reconfigure(line_buffering=True)
    kind, *words = arguments[unbuffered:]
    _known_to_inspect()
    sys.modules.pop("__main__", None)
    try:
        if kind == "-m":
            sys.path[:0] = [] if is_safe else [str(Path.cwd())]
            sys.argv = words
            if not hasattr(sys.modules.get(words[0]), "__path__"):
                sys.modules.pop(words[0], None)  # as if it had not been imported yet
            sys.orig_argv = [sys.executable, *arguments]
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.path[:0] = [] if is_safe else [""]
            sys.argv = ["-c", *words[1:]]
            module = type(sys)("__main__")
            module.__dict__["__builtins__"] = __builtins__
            sys.modules["__main__"] = module
            exec(compile(words[0], "<string>", "exec"), module.__dict__)
        else:
            sys.path[:0] = [] if is_safe else [str(Path(kind).resolve().parent)]
            sys.argv = [kind, *words]
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:  # noqa: BLE001 — as an interpreter does
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """Ends as an interpreter ends."""
    with suppress(BaseException):
        threading._shutdown()
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    serve(*sys.argv[1:])
