"""Progress as plain lines, for a file, a CI log or a container: no display, no control characters.

For example:

    train: started, 23,040 images
    train: step 54 of 180: validation MAP@3 0.7123, loss 0.91 (training 1.02), 1,204 images/s, …
    train: 18,432 of 23,040 images, 1,198 images/s, 4 s left
    train: ended after 24 s: 23,040 images, 960 images/s
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from rich.filesize import decimal
from rich.progress import Progress, Task

from quickdraw_core.progress import Bar, duration_text

LINE_SECONDS = 30
"""Least time between a line and the next one that only says how far the work is."""
_SPEED_SECONDS = 300
"""Over how long the speed in a line is measured, at most."""


def write_line(text: str) -> None:
    """Writes a line to standard error at once, with `?` for control characters.

    A full disk, or a reader that is gone, costs the line and not the work.
    """
    if sys.stderr is None:  # closed, by `2>&-`
        return
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class LineReporter:
    """Writes a line when a bar opens, when it closes and for each event, and otherwise at most one
    every 30 seconds. Of a bar without a unit, which counts nothing, it writes the notes.

    write: takes a line, without its end. clock: seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None] = write_line,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # It displays nothing: it counts, and measures speeds.
        self.counts = Progress(disable=True, get_time=clock, speed_estimate_period=_SPEED_SECONDS)
        self._write, self._clock = write, clock
        self._lock, self._written_at = threading.Lock(), clock()

    def open(self, name: str, total: float | None, unit: str) -> "_LineBar":
        """Starts to count."""
        with self._lock:
            self.counts.add_task(name, total=total, unit=unit)
            bar = _LineBar(self, self.counts.tasks[-1])
        if unit:
            expected = "" if total is None else f", {amount_text(total, unit)}"
            self.write(name, f"started{expected}")
        return bar

    def close(self, bar: Bar) -> None:
        """Writes how much was done, and in which time."""
        assert isinstance(bar, _LineBar)
        if bar.unit:
            self.write(bar.name, bar.summary())
        self.counts.remove_task(bar.task.id)

    def write(self, name: str, text: str) -> None:
        """Writes a line about a bar."""
        with self._lock:
            self._written_at = self._clock()
            self._write(f"{name}: {text}")

    def take_turn(self) -> bool:
        """Whether the last line is 30 seconds old; if so, the caller writes the next one."""
        with self._lock:
            is_due = self._clock() - self._written_at >= LINE_SECONDS
            if is_due:
                self._written_at = self._clock()
        return is_due


class _LineBar:
    """One piece of work in progress."""

    def __init__(self, reporter: LineReporter, task: Task) -> None:
        self._reporter, self.task, self._note = reporter, task, ""
        self.name, self.unit = task.description, str(task.fields["unit"])

    def advance(self, amount: float) -> None:
        self._reporter.counts.advance(self.task.id, amount)
        self._write_if_due()

    def expect(self, total: float) -> None:
        self._reporter.counts.update(self.task.id, total=total)

    def note(self, text: str) -> None:
        is_new, self._note = text != self._note, text
        if self.unit:
            self._write_if_due()
        elif text and is_new:
            self._reporter.write(self.name, text)

    def log(self, text: str) -> None:
        self._reporter.write(self.name, text)

    def summary(self) -> str:
        """What was done in all, in which time."""
        seconds = self.task.elapsed or 0.0
        rate = self.task.completed / seconds if seconds else 0.0
        done = ", ".join([self._done(), *([rate_text(rate, self.unit)] if rate else [])])
        return f"ended after {duration_text(seconds)}: {done}"

    def _write_if_due(self) -> None:
        if self.unit and self._reporter.take_turn():
            self._reporter.write(self.name, "; ".join(filter(None, [self._state(), self._note])))

    def _state(self) -> str:
        """What is done of what, how fast, and how long the rest takes at that speed."""
        seconds, done = self.task.elapsed, self.task.completed
        rate = self.task.speed or (done / seconds if seconds else 0.0)
        parts = [self._done()]
        if rate:
            parts.append(rate_text(rate, self.unit))
            if self.task.remaining is not None:
                parts.append(f"{duration_text(self.task.remaining / rate)} left")
        return ", ".join(parts)

    def _done(self) -> str:
        done, total = self.task.completed, self.task.total
        if total is None or done == total:
            return amount_text(done, self.unit)
        if self.unit == "bytes":
            return f"{amount_text(done, self.unit)} of {amount_text(total, self.unit)}"
        return f"{done:,.0f} of {total:,.0f} {self.unit}"


def amount_text(amount: float, unit: str) -> str:
    """An amount as people write it: `23,040 images`, `0.52 rows`, `1 row`, `1.2 GB`."""
    if unit == "bytes":
        return str(decimal(int(amount)))
    digits = ",.0f" if amount >= 10 or amount == int(amount) else ".2g"
    return f"{amount:{digits}} {unit.removesuffix('s') if amount == 1 else unit}"


def rate_text(rate: float, unit: str) -> str:
    """Units a second."""
    return f"{amount_text(rate, unit)}/s"
