"""The processes of the tests: a forked one is as one that an interpreter starts, and its time is
counted.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from budget import spent, uncounted
from forkserver import real_python

BURN = "import time\nwhile time.process_time() < {}: pass"
CHAIN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def told(python: str, code: str, *words: str, **options: object) -> str:
    command = [python, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    return str(done.stdout)


def test_it_is_as_one_that_is_started(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\n"
        "mask = os.umask(0); os.umask(mask)\n"
        "print(sys.argv, os.getcwd(), os.environ['SEEN'], mask, sys.stdin.read(),\n"
        "      signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), __name__)"
    )
    options = {"cwd": tmp_path, "env": os.environ | {"SEEN": "ä"}, "input": "given", "umask": 0o27}
    assert told(sys.executable, code, "a", "-b", **options) == told(
        real_python(), code, "a", "-b", **options
    )


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "LC_ALL", "OMP_WAIT_POLICY"])
def test_what_is_decided_at_the_start_takes_an_interpreter_and_keeps_the_umask(
    variable: str,
) -> None:
    code = "import os, sys; print('torch' in sys.modules, oct(os.umask(0)))"
    others = {"PYTHONHASHSEED": ("1", "2"), "LC_ALL": ("C", "POSIX")}
    values = others.get(variable, ("active", "passive"))
    given = os.environ | {variable: values[os.environ.get(variable) == values[0]]}
    assert told(sys.executable, code, umask=0o22).split() == ["True", "0o22"]
    assert told(sys.executable, code, umask=0o22, env=given).split() == ["False", "0o22"]


def test_a_signal_that_it_was_started_to_ignore_reaches_its_own_handler() -> None:
    """As in the background of a shell that has no jobs."""
    code = (
        "import signal\n"
        "assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "print('ready', flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == -signal.SIGINT


def test_its_end_is_handed_on() -> None:
    for code, status in (("raise SystemExit(3)", 3), ("import os; os.abort()", -signal.SIGABRT)):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == status


def test_a_killed_session_takes_along_what_it_started() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CHAIN], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 300
    while Path("/proc", str(child)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_time_of_a_forked_process_counts_but_for_what_all_share() -> None:
    before = spent()
    subprocess.run([sys.executable, "-c", BURN.format(0.5)], check=True)
    between = spent()
    assert between - before > 0.3
    with uncounted():
        subprocess.run([sys.executable, "-c", BURN.format(0.5)], check=True)
    assert spent() - between < 0.3
