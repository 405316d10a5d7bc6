"""SIGTERM as an end that tidies up."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from quickdraw_core.commands.running import going_on_said
from quickdraw_core.system.termination import TerminatedError, ended_by_sigterm


def test_it_ends_a_block_as_ctrl_c_does_once() -> None:
    tidied = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("goes on")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # Slurm may send several
            tidied.append(True)

    with pytest.raises(TerminatedError), ended_by_sigterm():
        work()
    assert tidied
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quickdraw", "train"])
    with pytest.raises(SystemExit) as ended, going_on_said():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


def test_whoever_handles_the_signal_goes_on_doing_so() -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with ended_by_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_a_thread_leaves_signals_alone() -> None:
    seen = []

    def work() -> None:
        with ended_by_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_process_that_was_forked_within_the_block_ends_by_the_signal() -> None:
    code = (
        "import os, signal, time\n"
        "from quickdraw_core.system.termination import ended_by_sigterm\n"
        "with ended_by_sigterm():\n"
        "    ready, begun = os.pipe()\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        os.write(begun, b'.')\n        time.sleep(60)\n"
        "    os.read(ready, 1)  # Python forgets what comes while it forks\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(-signal.SIGTERM)]
