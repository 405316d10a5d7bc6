"""What all stages have in common: prepared once, skipped or run, tried once more."""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quickdraw_core import stage as stages
from quickdraw_core.config import Config
from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    DivergedError,
    InputError,
    TrainingError,
    UnreachableError,
    UnreadableError,
    WriteError,
)
from quickdraw_core.stage import (
    Action,
    Opened,
    Outlook,
    Stage,
    is_worth_retrying,
    perform,
)


class JobConfig(Config):
    """What a made-up stage is to do."""

    fresh: bool = False


@dataclass
class Job:
    """A made-up stage, which notes what is asked of it. raising: by attempt; result: of before."""

    raising: list[Exception] = field(default_factory=list)
    before: int | None = None
    begun_at: float | None = None
    seen: list[str] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)

    def stage(self) -> Stage[JobConfig, int]:
        return Stage("job", self.prepare, lambda config, opened: self.begun_at)

    def prepare(self, config: JobConfig, opened: Opened) -> "Job":
        self.seen.append("prepare")
        self.fresh.append(config.fresh)
        return self

    def key(self) -> str:
        return "key"

    def finished(self) -> int | None:
        self.seen.append("finished")
        return self.before

    def unfinished(self) -> Outlook:
        self.seen.append("unfinished")
        return Outlook(Action.CONTINUE, "from step 3")

    def run(self) -> int:
        self.seen.append("run")
        if self.raising:
            raise self.raising.pop(0)
        return 1


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "RETRY_SECONDS", 0)


def test_a_stage_is_prepared_once_however_often_it_is_asked_for() -> None:
    job, opened = Job(), Opened()
    stage = job.stage()
    stage.prepared(JobConfig(), opened)
    assert perform(stage, JobConfig(), opened) == 1
    assert job.seen == ["prepare", "finished", "run"]


def test_what_is_finished_is_not_run() -> None:
    job = Job(before=7)
    assert perform(job.stage(), JobConfig(), Opened()) == 7
    assert job.seen == ["prepare", "finished"]


@pytest.mark.parametrize(
    "error",
    [
        *(InputError("x"), ConfigError("x"), CheckpointError("x"), DivergedError("x")),
        *(UnreadableError("x"), WriteError("x")),
    ],
)
def test_what_would_come_to_the_same_end_is_not_tried_again(error: Exception) -> None:
    job = Job([error])
    assert not is_worth_retrying(error)
    with pytest.raises(type(error)):
        perform(job.stage(), JobConfig(), Opened())
    assert job.seen.count("run") == 1


@pytest.mark.parametrize(
    "error", [TrainingError("x"), UnreachableError("x"), OSError("x"), RuntimeError("x")]
)
def test_what_broke_is_prepared_and_run_once_more(error: Exception) -> None:
    job = Job([error])
    assert perform(job.stage(), JobConfig(), Opened()) == 1
    assert job.seen == ["prepare", "finished", "run"] * 2
    twice = Job([error, error])
    with pytest.raises(type(error)):
        perform(twice.stage(), JobConfig(), Opened())
    assert twice.seen.count("run") == 2


def test_ctrl_c_is_not_tried_again() -> None:
    assert not is_worth_retrying(KeyboardInterrupt())


@pytest.mark.parametrize(
    ("begun_at", "second"),
    [(0.0, True), (float("inf"), False), (None, False)],
    ids=["of before", "by the first attempt", "nothing is there"],
)
def test_fresh_throws_nothing_away_that_an_earlier_attempt_made(
    begun_at: float | None, second: bool
) -> None:
    job = Job([TrainingError("x")], begun_at=begun_at)
    perform(job.stage(), JobConfig(fresh=True), Opened())
    assert job.fresh == [True, second]


def test_what_is_open_is_opened_anew_only_in_another_version(tmp_path: Path) -> None:
    opened, made = Opened(), []

    def make() -> int:
        made.append(0)
        return len(made)

    assert [opened.once("a", make, version) for version in (1, 1, 2, 2, 1)] == [1, 1, 2, 2, 3]
    opened.keep("a", 9, 5)
    assert opened.once("a", make, 5) == 9
    opened.forget()
    assert opened.once("a", make, 5) == 4


def test_what_fails_to_open_is_tried_anew() -> None:
    opened = Opened()
    with pytest.raises(OSError, match="away"):
        opened.once("a", lambda: (_ for _ in ()).throw(OSError("away")))
    assert opened.once("a", lambda: 1) == 1


def test_threads_open_a_thing_once() -> None:
    opened, made, together = Opened(), [], threading.Barrier(8)

    def use() -> None:
        together.wait()
        opened.once("a", lambda: made.append(os.getpid()))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_branch_has_what_was_open_and_keeps_its_own_to_itself() -> None:
    opened = Opened()
    opened.keep("a", 1)
    branch = opened.branch()
    assert branch.once("a", lambda: 2) == 1
    branch.keep("b", 3)
    assert opened.once("b", lambda: 4) == 4


@pytest.mark.parametrize(("before", "action"), [(1, Action.REUSE), (None, Action.CONTINUE)])
def test_a_plan_asks_what_is_finished_and_runs_nothing(before: int | None, action: Action) -> None:
    job = Job(before=before)
    assert job.stage().outlook(JobConfig(), Opened()).action == action
    assert "run" not in job.seen


@pytest.mark.parametrize(("begun", "fresh"), [(10.0, True), (30.0, False), (None, False)])
def test_what_is_redone_starts_over_what_was_there_before_and_nothing_else(
    begun: float | None, fresh: bool
) -> None:
    job = Job(begun_at=begun)
    assert job.stage().anew(JobConfig(), Opened(), since=20.0).fresh == fresh
