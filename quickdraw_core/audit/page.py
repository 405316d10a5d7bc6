"""The audit's page: one self-contained HTML file, with drawings as inline SVG."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.audit.judge import Judged
from quickdraw_core.audit.result import AuditResult, command_without
from quickdraw_core.audit.suspects import NONE, Reason, Suspects
from quickdraw_core.drawing import Int64Array
from quickdraw_core.reporting.gallery import svg_path
from quickdraw_core.reporting.pages import percent
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack, class_starts
from quickdraw_core.system.files import write_atomic

WORST = 48
"""Drawings in the gallery of all classes."""


class Page(NamedTuple):
    """All that the page shows. suspects: worst first."""

    result: AuditResult
    judged: Judged
    suspects: Suspects
    pack: Pack
    config: AuditConfig


class Card(NamedTuple):
    """A suspicious drawing. own: probability of its word, None of a near-duplicate; original: the
    SVG path of what it repeats, empty if it repeats nothing. likely_word: None of the other
    reasons than a wrong word. recognized: by the game's own model.
    """

    key_id: int
    word: str
    likely_word: str | None
    reason: str
    score: float
    own: float | None
    split: str
    recognized: bool
    path: str
    original: str


class ClassRow(NamedTuple):
    """A class. wrong: drawings estimated to be of another word; likely_word: the word they are
    most often of; counts: suspects by reason; cards: the most suspicious, by reason.
    """

    word: str
    drawings: int
    wrong: float
    likely_word: str | None
    counts: tuple[int, ...]
    cards: list[Card]


def write_page(page: Page, path: Path) -> None:
    """Writes the page, which loads nothing from outside."""
    write_atomic(path, render_page(page), sync=False)


def render_page(page: Page) -> str:
    """The page, as HTML."""
    packages = ("quickdraw_core.audit", "quickdraw_core.reporting")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "") for package in packages]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["percent"] = percent
    return environment.get_template("audit.html.jinja").render(_context(page))


def _context(page: Page) -> dict[str, Any]:
    result, suspects = page.result, page.suspects
    wrong = np.flatnonzero(suspects.reasons == Reason.WRONG_WORD)
    classes = sorted(_classes(page), key=lambda row: (-row.counts[0], -sum(row.counts), row.word))
    return {
        "store": str(page.config.store),
        "result": result,
        "reasons": [reason.text for reason in Reason],
        "total": len(suspects),
        "worst": [_card(page, int(i)) for i in wrong[:WORST]],
        "classes": classes,
        "command": command_without(result.mask, page.config.store),
        "folds": page.config.folds,
    }


def _classes(page: Page) -> Iterator[ClassRow]:
    pack, suspects, judged = page.pack, page.suspects, page.judged
    words, labels, room = pack.label_map.words, pack.labels[suspects.rows], page.config.gallery
    ends = class_starts(pack.labels, np.arange(len(words) + 1))
    for label, word in enumerate(words):
        index = np.flatnonzero(labels == label)
        counts = np.bincount(suspects.reasons[index], minlength=len(Reason))
        off = judged.joint[label].copy()
        off[label] = 0
        yield ClassRow(
            word,
            int(ends[label + 1] - ends[label]),
            float(judged.wrong[label]),
            words[off.argmax()] if off.any() else None,
            tuple(counts.tolist()),
            [_card(page, int(i)) for i in index[best_of_each(suspects.reasons[index], room)]],
        )


def best_of_each(reasons: Int64Array, room: int) -> Int64Array:
    """Which of a class's suspects, worst first by reason, fit on the page: int64 [n], ascending.

    Half of the room is for wrong words, a quarter for each other reason. What a reason does not
    need is for the others, the gravest first.
    """
    counts = np.bincount(reasons, minlength=len(Reason)).tolist()
    quarter = room // 4
    taken = [min(*of) for of in zip(counts, (room - 2 * quarter, quarter, quarter), strict=True)]
    for reason, count in enumerate(counts):
        taken[reason] += min(count - taken[reason], room - sum(taken))
    firsts = [np.flatnonzero(reasons == reason)[:count] for reason, count in enumerate(taken)]
    return np.concatenate(firsts)


def _card(page: Page, index: int) -> Card:
    pack, suspects = page.pack, page.suspects
    words, row = pack.label_map.words, int(suspects.rows[index])
    other, other_row = int(suspects.others[index]), int(suspects.other_rows[index])
    own = float(suspects.own[index])
    return Card(
        int(pack.key_ids[row]),
        words[pack.labels[row]],
        words[other] if other != NONE else None,
        Reason(suspects.reasons[index]).text,
        float(suspects.scores[index]),
        None if np.isnan(own) else own,
        Split(pack.splits[row]).name.lower(),
        bool(pack.recognized[row] == 1),
        svg_path(pack.drawings.strokes(row)),
        svg_path(pack.drawings.strokes(other_row)) if other_row != NONE else "",
    )
