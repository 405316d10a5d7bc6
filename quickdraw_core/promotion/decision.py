"""Decides who is champion, and why: pure functions from numbers to a decision and its reason."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quickdraw_core.metrics.comparison_text import needed_sentence, sentence
from quickdraw_core.metrics.differences import Comparison
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.registry import Version

_ROUNDING = 1e-9


class Decision(StrEnum):
    """The outcome of a challenge."""

    FIRST = "first"
    """There was no champion, and the model is better than chance: promoted."""
    PROMOTED = "promoted"
    """It is better than the champion."""
    KEPT = "kept"
    """It is not, or not significantly: the champion stays, or there still is none."""
    SAME = "same"
    """It is the champion already: nothing to do."""


@dataclass(frozen=True)
class PromoteResult:
    """What was decided, and why.

    reason: in words and numbers. score: the challenger's MAP@3. precision: what both computed in,
    a name of PRECISIONS. Both are None if nothing had to be judged. version: the challenger's;
    None if it has none, as in a dry run. champion: who held the alias before. comparison:
    champion first; None without a champion.
    """

    decision: Decision
    reason: str
    name: str
    alias: str
    dry_run: bool
    score: Estimate | None = None
    precision: str | None = None
    version: Version | None = None
    champion: Version | None = None
    comparison: Comparison | None = None
    mlflow_run_id: str = ""
    tracking_uri: str = NO_TRACKING
    mlflow_page: str | None = None
    tracking_problem: str | None = None

    @property
    def promoted(self) -> bool:
        """Whether the challenger gets the alias; in a dry run: would get it."""
        return self.decision in (Decision.FIRST, Decision.PROMOTED)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for the run."""
        return {
            "decision": str(self.decision),
            "promoted": self.promoted,
            "reason": self.reason,
            "name": self.name,
            "alias": self.alias,
            "version": self.version.number if self.version else None,
            "champion": self.champion.number if self.champion else None,
            "map_at_3": self.score._asdict() if self.score else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
        }


def decide(comparison: Comparison, margin: float, alias: str) -> tuple[Decision, str]:
    """Whether a challenger, the second, takes an alias from the first, and why."""
    difference, verdict = comparison.differences["map_at_3"], sentence(comparison)
    if difference.significant:
        verdict += f" on {comparison.n:,} held-out drawings"
    if difference.significant and difference.estimate.low > margin:
        beyond = f", beyond the margin of {margin:g}" if margin else ""
        return Decision.PROMOTED, f"promoted to {alias}: {verdict}{beyond}"
    if difference.significant and difference.gain > 0:
        verdict += f", but not beyond the margin of {margin:g}"
    needed = needed_sentence(comparison) if difference.gain > 0 else None
    verdict += f"; {needed}" if needed else ""
    return Decision.KEPT, f"{comparison.first} stays {alias}: {verdict}"


def decide_alone(name: str, score: Estimate, by_chance: float, alias: str) -> tuple[Decision, str]:
    """Whether a model takes an alias that nobody holds, and why."""
    numbers = (
        f"MAP@3 {score.value:.4f} ({score.low:.4f} to {score.high:.4f}) on {score.n:,} held-out "
        f"drawings, where always guessing the same words gets {by_chance:.4f}"
    )
    if score.low > by_chance + _ROUNDING:
        return Decision.FIRST, f"promoted to {alias}, which nobody was: {name} has {numbers}"
    return Decision.KEPT, f"still nobody is {alias}: {name} is not better than chance, {numbers}"
