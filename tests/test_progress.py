"""How progress is shown: by what standard error is, or as asked; on a clock that does not run."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import TextIO

import pytest

from quickdraw_core.cli import app
from quickdraw_core.progress import Bar, duration_text, progress, report_to, reporter_of
from quickdraw_core.terminal.progress_lines import LINE_SECONDS, LineReporter, write_line

LINES = re.compile(
    rb"generate: started, 60 drawings\n"
    rb"generate: ended after \d+ s: 60 drawings, [\d,]+ drawings/s\n"
)
BARS = re.compile(rb"\x1b\[.*generate.*60/60.*", re.DOTALL)
NOTHING = re.compile(b"")


def written_to(kind: str, work: Callable[[TextIO], None], folder: Path) -> bytes:
    """What some work writes to a terminal, a pipe or a file."""
    if kind == "file":
        with (folder / "log").open("w") as stream:
            work(stream)
        return (folder / "log").read_bytes()
    ours, theirs = os.pipe() if kind == "pipe" else os.openpty()
    with ThreadPoolExecutor() as pool, os.fdopen(ours, "rb", 0) as source:
        read = pool.submit(_rest, source)
        with os.fdopen(theirs, "w") as stream:
            work(stream)
        return read.result().replace(b"\r\n", b"\n")


def _rest(source: io.FileIO) -> bytes:
    """All that is written until the other end is closed, which a terminal reports as an error."""
    found = b""
    with suppress(OSError):
        while part := source.read(1 << 16):
            found += part
    return found


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("terminal", "", BARS),
        ("dumb terminal", "", LINES),
        ("pipe", "", LINES),
        ("file", "", LINES),
        ("terminal", "--progress plain", LINES),
        ("terminal", "--quiet", NOTHING),
        ("terminal", "--progress none", NOTHING),
        ("file", "--progress rich", BARS),
        ("file", "--progress plain", LINES),
        ("file", "--progress none", NOTHING),
        ("file", "--quiet", NOTHING),
        ("file", "--quiet --progress rich", NOTHING),
    ],
)
def test_progress_fits_standard_error_unless_asked_for(
    kind: str,
    options: str,
    expected: re.Pattern[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TERM", "dumb" if kind == "dumb terminal" else "xterm")
    csv = tmp_path / "csv"
    words = ["generate", str(csv), "--classes", "2", "--rows", "30", *options.split()]

    def command(stream: TextIO) -> None:
        monkeypatch.setattr(sys, "stderr", stream)
        app(words, standalone_mode=False)

    found = written_to(kind, command, tmp_path)
    assert expected.fullmatch(found), found
    assert capsys.readouterr().out == f"drawings     60 of 2 words in {csv}\n"


def test_every_command_can_be_quiet() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert {"quiet", "progress"} <= {*signature(command.callback).parameters}


class Clock:
    """Seconds, which pass when a test says so."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Iterator[list[str]]:
    """What a block of work writes."""
    found: list[str] = []
    with report_to(LineReporter(found.append, clock)):
        yield found


def worked(bar: Bar, clock: Clock, seconds: float, amount: float) -> None:
    clock.now += seconds
    bar.advance(amount)


def test_start_end_and_a_line_in_30_seconds(lines: list[str], clock: Clock) -> None:
    with progress("train", 20_000, "images") as bar:
        for _ in range(100):
            worked(bar, clock, 1, 200)
    assert lines == [
        "train: started, 20,000 images",
        "train: 6,000 of 20,000 images, 200 images/s, 1 min 10 s left",
        "train: 12,000 of 20,000 images, 200 images/s, 40 s left",
        "train: 18,000 of 20,000 images, 200 images/s, 10 s left",
        "train: ended after 1 min 40 s: 20,000 images, 200 images/s",
    ]


def test_an_event_is_written_at_once_and_the_next_line_waits(
    lines: list[str], clock: Clock
) -> None:
    with progress("train", 10_000, "images") as bar:
        worked(bar, clock, LINE_SECONDS - 1, 1_000)
        bar.log("step 10 of 100: validation MAP@3 0.9000")
        bar.note("validation MAP@3 0.9000")
        worked(bar, clock, LINE_SECONDS - 1, 1_000)
        assert lines[1:] == ["train: step 10 of 100: validation MAP@3 0.9000"]
        worked(bar, clock, 1, 1_000)
    assert lines[2].startswith("train: 3,000 of 10,000 images, ")
    assert lines[2].endswith(" left; validation MAP@3 0.9000")
    assert lines[3:] == ["train: ended after 59 s: 3,000 of 10,000 images, 51 images/s"]


def test_one_is_not_written_as_many_and_nothing_has_no_speed(
    lines: list[str], clock: Clock
) -> None:
    with progress("SGD", 1, "rows"):
        clock.now += 3
    with progress("Adam", 1, "rows") as bar:
        worked(bar, clock, 4, 1)
    assert lines == [
        "SGD: started, 1 row",
        "SGD: ended after 3 s: 0 of 1 rows",
        "Adam: started, 1 row",
        "Adam: ended after 4 s: 1 row, 0.25 rows/s",
    ]


def test_the_speed_is_that_of_the_last_minutes(lines: list[str], clock: Clock) -> None:
    with progress("evaluate", 10_000, "drawings") as bar:
        worked(bar, clock, 1_000, 0)  # of getting started
        for _ in range(30):
            worked(bar, clock, 1, 10)
    assert lines[2] == "evaluate: 300 of 10,000 drawings, 10 drawings/s, 16 min 10 s left"


def test_two_bars_share_the_lines(lines: list[str], clock: Clock) -> None:
    with progress("a", 500, "images") as first, progress("b", 500, "images") as second:
        clock.now += LINE_SECONDS
        first.advance(50)
        second.advance(50)
    assert len([line for line in lines if ": 50 of 500" in line and "left" in line]) == 1


def test_a_bar_says_whose_it_is(lines: list[str]) -> None:
    with report_to(reporter_of("Row 2")), progress("train", None, "images"):
        pass
    assert lines[0].startswith("Row 2: train: started")


@pytest.mark.parametrize(
    ("total", "unit", "amount", "started", "ended"),
    [
        (None, "rows", 1_715, "started", "1,715 rows, 172 rows/s"),
        (3e9, "bytes", 1e9, "started, 3.0 GB", "1.0 GB of 3.0 GB, 100.0 MB/s"),
        (4, "rounds", 2, "started, 4 rounds", "2 of 4 rounds, 0.2 rounds/s"),
    ],
)
def test_amounts_and_speeds_have_units(
    total: float | None,
    unit: str,
    amount: float,
    started: str,
    ended: str,
    lines: list[str],
    clock: Clock,
) -> None:
    with progress("work", total, unit) as bar:
        worked(bar, clock, 10, amount)
    assert lines == [f"work: {started}", f"work: ended after 10 s: {ended}"]


def test_what_waits_and_counts_nothing_says_why_once(lines: list[str], clock: Clock) -> None:
    with progress("gpu", None, "") as bar:
        for _ in range(100):
            clock.now += 1
            bar.note("waiting for 1 of the GPUs 0, 1")
        bar.note("")
    assert lines == ["gpu: waiting for 1 of the GPUs 0, 1"]


def test_a_line_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("ingest: \x1b[31mred\x1b[0m\tfile\rof\ntwo lines \udcff été")
    assert capsys.readouterr().err == "ingest: ?[31mred?[0m?file?of?two lines ? été\n"


def test_a_line_that_nobody_takes_costs_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        write_line("train: started")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()
    monkeypatch.setattr(sys, "stderr", None)  # closed, by `2>&-`
    write_line("train: started")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min 0 s"), (110, "1 min 50 s"), (7_500, "2 h 5 min")],
)
def test_durations_are_in_whole_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
