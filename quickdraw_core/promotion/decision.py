"""Who is champion, and why: pure functions from numbers to a decision and its reason in words."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from quickdraw_core.metrics.comparison_text import (
    difference_table,
    markdown_table,
    needed_sentence,
    sentence,
)
from quickdraw_core.metrics.differences import Comparison
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.registry import Version

_ROUNDING = 1e-9


class Decision(StrEnum):
    """What came of a challenge."""

    FIRST = "first"
    """There was no champion, and the model is better than chance: promoted."""
    PROMOTED = "promoted"
    """It is better than the champion."""
    KEPT = "kept"
    """It is not, or cannot be told to be: the champion stays; or there is none, and still is."""
    SAME = "same"
    """It is the champion already: there was nothing to do."""


@dataclass(frozen=True)
class PromoteResult:
    """What was decided, and why.

    reason: in words and numbers. score: the challenger's MAP@3; precision: what both computed in,
    a name of PRECISIONS; both None where nothing had to be judged. version: the challenger's;
    None where it has none, as in a dry run. champion: who held the alias before. comparison:
    champion first; None without one.
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
        """Whether the alias goes to the challenger; in a dry run: would go."""
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
    """Whether a challenger, the second, takes an alias from the first, and why. Pure."""
    found = comparison.differences["map_at_3"]
    said, on = sentence(comparison), f"{comparison.n:,} held-out drawings"
    if found.told and found.estimate.low > margin:
        beyond = f", beyond the margin of {margin:g}" if margin else ""
        return Decision.PROMOTED, f"promoted to {alias}: {said} on {on}{beyond}"
    if found.told and found.gain > 0:
        said = f"{said} on {on}, but not beyond the margin of {margin:g}"
    elif found.told:
        said = f"{said} on {on}"
    needed = needed_sentence(comparison) if found.gain > 0 else None
    return Decision.KEPT, f"{comparison.first} stays {alias}: {said}" + (
        f"; {needed}" if needed else ""
    )


def decide_alone(name: str, score: Estimate, by_chance: float, alias: str) -> tuple[Decision, str]:
    """Whether a model takes an alias that nobody holds, and why. Pure."""
    shown = (
        f"MAP@3 {score.value:.4f} ({score.low:.4f} to {score.high:.4f}) on {score.n:,} held-out "
        f"drawings, where always guessing the same words gets {by_chance:.4f}"
    )
    if score.low > by_chance + _ROUNDING:
        return Decision.FIRST, f"promoted to {alias}, which nobody was: {name} has {shown}"
    return Decision.KEPT, f"nobody is {alias} still: {name} is not better than chance, {shown}"


def decision_words(result: PromoteResult) -> str:
    """The decision for people: what became of the challenger."""
    words = {
        Decision.FIRST: "promoted",
        Decision.PROMOTED: "promoted",
        Decision.KEPT: "not promoted",
        Decision.SAME: "nothing to do",
    }
    dry = " (dry run: nothing was written)" if result.dry_run else ""
    return words[result.decision] + dry


def promotion_markdown(result: PromoteResult) -> str:
    """The decision with its numbers, for whoever runs the flow."""
    lines = [f"**{result.name}@{result.alias}: {decision_words(result)}**", "", result.reason]
    if result.comparison is not None:
        lines += ["", *markdown_table(*difference_table(result.comparison))]
    if result.version is not None:
        lines += ["", f"Registered as `{result.version.reference}`"]
    if result.mlflow_page is not None:
        lines += ["", f"In MLflow: [run {result.mlflow_run_id}]({result.mlflow_page})"]
    return "\n".join(lines) + "\n"
