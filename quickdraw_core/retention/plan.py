"""What goes, what stays, and why: a function of what is there.

A thing goes if nothing needs it and it was not used for as long as asked. Whatever a thing that
stays refers to stays as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from pathlib import Path

from quickdraw_core.system.durations import in_words

RECENT_SECONDS = 3_600.0
"""What was used within it stays, whatever is asked: between two stages nobody holds a lock."""


class Kind(StrEnum):
    """What a thing is, in the order of the table."""

    RUN = "run"
    CHECKPOINT = "checkpoint"
    PACK = "pack"
    BUNDLE = "bundle"
    INDEX = "row index"
    RESULT = "Prefect result"
    DELETED_RUN = "MLflow run"
    LEFTOVER = "leftover"


@dataclass(frozen=True)
class Thing:
    """Something that takes room. name: a path, or the address and id of an MLflow run.

    used: when it was last written or used, seconds since 1970. needed: who needs it; such a thing
    stays. useless: why nothing can use it any more; such a thing goes whatever its age. part_of:
    the run folder of a checkpoint that the run itself does not need. refers_to, known_as: other
    things that it names, and the names that others may have for it. counts: as one of the newest
    runs; a row of a sweep does not.
    """

    kind: Kind
    name: str
    size_bytes: int
    used: float
    needed: str = ""
    useless: str = ""
    part_of: str = ""
    refers_to: frozenset[str] = frozenset()
    known_as: frozenset[str] = frozenset()
    counts: bool = True

    def is_meant_by(self, name: str) -> bool:
        """Whether a name is of this thing, or of something in its folder."""
        if name in self.known_as or name == self.name:
            return True
        return self.kind is Kind.RUN and Path(name).is_relative_to(self.name)


@dataclass(frozen=True)
class Verdict:
    """A thing, whether it goes, and why."""

    thing: Thing
    goes: bool
    reason: str


@dataclass(frozen=True)
class Rules:
    """keep: newest runs that stay. older_than_seconds: since the last use, for what may go."""

    keep: int
    older_than_seconds: float

    def of_age(self, thing: Thing, rank: float, now: float) -> Verdict:
        """What becomes of a thing that nothing needs. rank: how many runs are newer;
        infinite for what is no run."""
        age = now - thing.used
        if age < RECENT_SECONDS:
            return Verdict(thing, False, "used within the last hour")
        if thing.useless:
            return Verdict(thing, True, thing.useless)
        if rank < self.keep:
            newest = "the newest run" if self.keep == 1 else f"one of the {self.keep} newest runs"
            return Verdict(thing, False, newest)
        if age < self.older_than_seconds:
            return Verdict(thing, False, f"used within {in_words(self.older_than_seconds)}")
        return Verdict(thing, True, f"not used for {in_words(self.older_than_seconds)}")


def plan(
    things: Sequence[Thing], rules: Rules, now: float, named: frozenset[str] = frozenset()
) -> list[Verdict]:
    """What becomes of each thing, in the order of the kinds, the oldest first.

    named: what is referred to from outside, by path, id or reference.
    """
    ordered = sorted(things, key=lambda t: (list(Kind).index(t.kind), t.used, t.name))
    ranks = _ranks(things)
    by_age = {t.name: rules.of_age(t, ranks.get(t.name, inf), now) for t in ordered}
    verdicts = {
        name: _unless_needed(verdict)
        for name, verdict in by_age.items()
        if not verdict.thing.part_of
    }
    _keep_what_is_named(verdicts, named)
    for thing in ordered:
        if thing.part_of:
            verdict = _of_checkpoint(thing, verdicts[thing.part_of], by_age[thing.part_of])
            verdicts[thing.name] = _unless_needed(verdict)
    _keep_what_is_named(verdicts, named)
    return [verdicts[thing.name] for thing in ordered]


def _ranks(things: Iterable[Thing]) -> dict[str, int]:
    """How many runs are newer than each run."""
    runs = [thing for thing in things if thing.kind is Kind.RUN and thing.counts]
    newest_first = sorted(runs, key=lambda thing: (-thing.used, thing.name))
    return {thing.name: rank for rank, thing in enumerate(newest_first)}


def _unless_needed(verdict: Verdict) -> Verdict:
    needed = verdict.thing.needed
    return replace(verdict, goes=False, reason=needed) if needed else verdict


def _keep_what_is_named(verdicts: dict[str, Verdict], named: frozenset[str]) -> None:
    """Until nothing that stays names a thing that goes."""
    naming = [(name, "a run or deployment of Prefect") for name in named]
    naming += [pair for verdict in verdicts.values() for pair in _names_of(verdict)]
    while naming:
        name, by = naming.pop()
        for key, verdict in verdicts.items():
            if verdict.goes and verdict.thing.is_meant_by(name):
                verdicts[key] = replace(verdict, goes=False, reason=f"{by} refers to it")
                naming += _names_of(verdicts[key])


def _names_of(verdict: Verdict) -> list[tuple[str, str]]:
    """What a thing that stays refers to, and its own name."""
    return [] if verdict.goes else [(n, verdict.thing.name) for n in verdict.thing.refers_to]


def _of_checkpoint(thing: Thing, run: Verdict, by_age: Verdict) -> Verdict:
    """A checkpoint that is neither the last nor the best goes with its run; if the run stays
    because something needs it, the checkpoint goes when the run would have gone.
    """
    if run.goes:
        return Verdict(thing, True, "its run goes")
    if not by_age.goes:
        return Verdict(thing, False, f"of a run that is {by_age.reason}")
    return Verdict(thing, True, f"neither the last nor the best of a run {by_age.reason}")
