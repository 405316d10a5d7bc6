"""Silence of one thread, beside others that report."""

import sys
import threading

import pytest

from quickdraw_core.system.quiet import quiet_thread


def test_what_the_thread_prints_is_dropped_and_what_others_print_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def report() -> None:
        sys.stdout.write("step 66 of 198\n")
        sys.stderr.write("a warning\n")

    before = sys.stdout, sys.stderr
    with quiet_thread():
        sys.stdout.write("Validating input example\n")
        sys.stderr.write("100%")
        other = threading.Thread(target=report)
        other.start()
        other.join()
        assert sys.stderr.encoding == before[1].encoding
        assert not sys.stderr.isatty()
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("step 66 of 198\n", "a warning\n")


def test_streams_that_are_closed_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with quiet_thread():
        assert sys.stderr is None
