"""An audit in a few lines, before and after it, for the terminal. Pure."""

from rich.filesize import decimal

from quickdraw_core.audit.result import AuditResult, command_without
from quickdraw_core.errors import first_few
from quickdraw_core.launching.estimate import Estimate
from quickdraw_core.progress import duration_text
from quickdraw_core.storage.location import Location


def audit_facts(result: AuditResult, store: Location) -> dict[str, str]:
    """What was found in a store, and what to do with it: name → value."""
    by = ", ".join(f"{count:,} {reason}" for reason, count in result.suspects.items())
    scores = ", ".join(f"{score:.3f}" for score in result.fold_scores)
    share = result.wrong / max(1, result.drawings)
    facts = {
        "suspects": f"{sum(result.suspects.values()):,} of {result.drawings:,} drawings: {by}",
        "estimate": f"{result.wrong:,.0f} drawings ({share:.1%}) are of another word than given",
        "folds": f"{len(result.fold_scores)} models, validation MAP@3 {scores}; "
        f"{result.right:.1%} of all drawings guessed right by the one that had not seen them"
        + ("; finished before, --fresh starts over" if result.skipped else ""),
    }
    if result.weakness:
        facts["weak"] = result.weakness
    if result.too_few:
        few = first_few([f"{word} ({count})" for word, count in result.too_few.items()])
        facts["not judged"] = f"words with too few train drawings: {few}"
    facts |= {
        "page": str(result.page),
        "mask": f"{result.mask} ({result.masked:,} train drawings)",
        "use it": command_without(result.mask, store),
    }
    return facts


def audit_plan_facts(folds: list[str], first: Estimate, drawings: int) -> dict[str, str]:
    """What an audit will take. folds: what each training would do; first: of the first of them;
    drawings: to be scored.
    """
    facts = {f"fold {number}": outlook for number, outlook in enumerate(folds, 1)}
    steps = "as many as the minutes allow" if first.steps is None else f"{first.steps:,}"
    facts["a training"] = (
        f"{steps} steps on {first.train_drawings:,} drawings of {first.classes:,} classes"
    )
    if first.duration is not None:
        one = first.duration.expected
        facts["time"] = (
            f"about {duration_text(one)} a training, {duration_text(one * len(folds))} for "
            f"{len(folds)}, if none is done yet; scoring and near-duplicates come on top"
        )
    facts["scored"] = f"{drawings:,} drawings, each by the model that has not seen it"
    needed = sum(room.needed_bytes for room in first.rooms) * len(folds)
    facts["disk"] = f"checkpoints need {decimal(needed)}, scores {decimal(48 * drawings)}"
    if first.rooms:
        free = min(room.free_bytes for room in first.rooms)
        facts["disk"] += f"; {decimal(free)} are free"
    return facts
