"""What became of the runs of a Prefect server, for people: tables of text. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from prefect.client.schemas.objects import FlowRun, StateType

from flows.reruns.find import ENDED, not_redone, waits_for_its_time, was_left
from quickdraw_core.redaction import without_secrets
from quickdraw_core.system.durations import in_words

_NEWEST = 10
_PLANNED = 5
_NOISE = (
    "Flow run encountered an exception: ",
    "Flow run encountered an exception. ",
    "Task run encountered an exception ",
)


class Section(NamedTuple):
    """A table, and lines to print after it. total: how many rows it would have if whole."""

    heads: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    total: int
    after: tuple[str, ...] = ()


def sections(runs: Sequence[FlowRun], now: datetime | None = None) -> dict[str, Section]:
    """The tables of some runs, by title; those without rows too."""
    now = now or datetime.now(UTC)
    failed = not_redone(runs)
    late = [run for run in runs if state_of(run) == "Late" and not was_left(run)]
    planned = [run for run in runs if waits_for_its_time(run)]
    at_work = [run for run in runs if run.state and run.state.type == StateType.RUNNING]
    ended = [run for run in runs if run.state and run.state.type in ENDED]
    others = {run.id for run in (*late, *planned, *at_work, *ended, *filter(was_left, runs))}
    waiting = [run for run in runs if run.id not in others]
    return {
        "failed and not redone since": Section(
            ("run", "state", "ended", "why"),
            [(run.name, state_of(run), _ago(run, now), why_of(run)) for run in failed],
            len(failed),
            tuple(f"again: quickdraw rerun {run.id}  ({run.name})" for run in failed[-_NEWEST:]),
        ),
        "late": Section(
            ("run", "due", "why"),
            [(run.name, _moment(run.expected_start_time, now), _why_late(run)) for run in late],
            len(late),
        ),
        "waiting": Section(
            ("run", "state", "since", "why"),
            [(run.name, state_of(run), _ago(run, now), _why_waiting(run)) for run in waiting],
            len(waiting),
        ),
        "at work": Section(
            ("run", "attempt", "began"),
            [(run.name, str(run.run_count), _moment(run.start_time, now)) for run in at_work],
            len(at_work),
        ),
        "planned": Section(
            ("run", "at"),
            [(run.name, _moment(run.expected_start_time, now)) for run in planned[:_PLANNED]],
            len(planned),
        ),
        "ended": Section(
            ("run", "state", "began", "took"),
            [
                (run.name, state_of(run), _moment(run.start_time, now), _took(run))
                for run in _newest(ended)
            ],
            len(ended),
        ),
    }


def state_of(run: FlowRun) -> str:
    """The name of a run's state."""
    return str(run.state.name) if run.state else "unknown"


def why_of(run: FlowRun) -> str:
    """Why a run is in its state, in one line without secrets; empty if nothing was said."""
    if was_left(run):
        return "the command that was to run it again was killed"
    message = run.state.message if run.state else None
    text = (message or "").strip().partition("\n")[0]
    for noise in _NOISE:
        text = text.removeprefix(noise)
    return without_secrets(text)


def _newest(runs: Iterable[FlowRun]) -> list[FlowRun]:
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(runs, key=lambda run: run.start_time or never, reverse=True)[:_NEWEST]


def _why_late(run: FlowRun) -> str:
    pool = run.work_pool_name
    return (
        f"no worker took it up; is one there? prefect worker start --pool {pool}"
        if pool
        else "nothing took it up"
    )


def _why_waiting(run: FlowRun) -> str:
    known = {
        "AwaitingConcurrencySlot": "another run of its deployment is at work",
        "AwaitingRetry": "it is tried once more",
        "Pending": "a worker is starting it",
        "Scheduled": "a worker is to take it up",
    }
    return known.get(state_of(run), why_of(run))


def _ago(run: FlowRun, now: datetime) -> str:
    return _moment(run.state.timestamp if run.state else None, now)


def _moment(moment: datetime | None, now: datetime) -> str:
    """A moment in local time, and how far away it is."""
    if moment is None:
        return "never"
    away = (now - moment).total_seconds()
    distance = f"{in_words(away)} ago" if away >= 0 else f"in {in_words(-away)}"
    return f"{moment.astimezone():%a %m-%d %H:%M} ({distance})"


def _took(run: FlowRun) -> str:
    return in_words(run.total_run_time.total_seconds())
