"""The time that a case may take: `make test` stays short because a slow case fails it.

Processor seconds, not seconds on the clock: those depend on what else the machine does. They are
those of this worker, of the processes that it waited for, and of those that were forked for it.
What is done once, by whichever case comes first, does not count: compiling by numba, and making
what all cases share.
"""

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forkserver import LEDGER
from numba.core import event

SECONDS = 5.0
"""Of set-up, call and tear-down each."""

LONGER = {
    "test_models.py::test_gradients_reach_all_of_it_the_loss_falls_and_the_state_dict_tells_all": (
        12.0,
        "vgg11 has 61 million weights, and each of them gets a gradient and a step",
    ),
    "test_training.py::test_the_switches_train": (
        12.0,
        "one of them is a transformer over 576 points",
    ),
}
"""`file::test` of those that may take longer: how many seconds, and why."""


class Compiling(event.Listener):  # type: ignore[misc]
    """Processor seconds that numba compiled in this process."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._begun = 0.0, 0, 0.0

    def on_start(self, _event: event.Event) -> None:
        """Begins to count, at the outermost function."""
        self._begun = self._begun if self._depth else time.thread_time()
        self._depth += 1

    def on_end(self, _event: event.Event) -> None:
        """Ends it."""
        self._depth -= 1
        self.seconds += 0 if self._depth else time.thread_time() - self._begun


COMPILING = Compiling()
event.register("numba:compiler_lock", COMPILING)
_uncounted = 0.0


def spent() -> float:
    """Processor seconds that count, up to now."""
    try:
        forked = sum(map(float, Path(os.environ[LEDGER]).read_text().split()))
    except FileNotFoundError:
        forked = 0.0
    return sum(os.times()[:4]) + forked - COMPILING.seconds - _uncounted


@contextmanager
def uncounted() -> Iterator[None]:
    """A block whose time counts for no case: it makes what all of them share."""
    global _uncounted
    begun = spent()
    try:
        yield
    finally:
        _uncounted += spent() - begun


class Budget:
    """A plugin of one worker: fails each part of a case that took too long."""

    def __init__(self) -> None:
        self._before = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Leaves out what was spent between two cases, such as the imports before the first."""
        self._before = spent()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Fails a part that took too long, and keeps its time for reports."""
        report = yield
        before, self._before = self._before, spent()
        seconds = self._before - before
        report.user_properties.append((f"cpu_{report.when}", round(seconds, 2)))
        name = f"{item.path.name}::{getattr(item, 'originalname', item.name)}"
        limit = LONGER.get(name, (SECONDS, ""))[0]
        is_limited = not any(map(item.get_closest_marker, ("services", "soak", "stack")))
        if report.passed and is_limited and seconds > limit:
            report.outcome = "failed"
            report.longrepr = (
                f"the {report.when} of {name} took {seconds:.1f} processor seconds, and "
                f"{limit:.0f} are allowed: make it smaller, move it to another suite, or give the "
                "reason in LONGER of tests/budget.py"
            )
        return report
