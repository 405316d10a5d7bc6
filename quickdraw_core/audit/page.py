"""The audit's page: one self-contained HTML file, with drawings as inline SVG."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.audit.judge import Judged
from quickdraw_core.audit.result import AuditResult
from quickdraw_core.audit.suspects import NONE, Reason, Suspects
from quickdraw_core.drawing import Int64Array
from quickdraw_core.reporting.gallery import svg_path
from quickdraw_core.reporting.pages import percent
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
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
    SVG path of what it repeats, empty if it repeats nothing. recognized: by the game's own model.
    """

    key_id: int
    word: str
    rather: str | None
    reason: str
    score: float
    own: float | None
    split: str
    recognized: bool
    path: str
    original: str


class ClassRow(NamedTuple):
    """A class. wrong: drawings estimated to be of another word; rather: the word they are most
    often of; counts: suspects by reason; cards: the most suspicious, by reason.
    """

    word: str
    drawings: int
    wrong: float
    rather: str | None
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
    command = ["quickdraw", "train", "--store", str(page.config.store)]
    return {
        "store": str(page.config.store),
        "result": result,
        "reasons": [reason.text for reason in Reason],
        "total": len(suspects),
        "worst": [_card(page, int(i)) for i in wrong[:WORST]],
        "classes": classes,
        "shown": page.config.shown,
        "command": shlex.join([*command, "--set", f"select.exclude={result.mask}"]),
        "folds": page.config.folds,
    }


def _classes(page: Page) -> Iterator[ClassRow]:
    pack, suspects, judged = page.pack, page.suspects, page.judged
    words, labels = pack.label_map.words, pack.labels[suspects.rows]
    ends = np.searchsorted(pack.labels, np.arange(len(words) + 1))
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
            [_card(page, int(i)) for i in _shared_out(suspects.reasons[index], index, page)],
        )


def _shared_out(reasons: Int64Array, index: Int64Array, page: Page) -> Int64Array:
    """The drawings of a class that are shown: half of the room is for wrong words, a quarter for
    each other reason, and what one does not need is for those before it.
    """
    room = page.config.shown
    kept: list[Int64Array] = []
    for reason, share in ((2, room // 4), (1, room // 4), (0, room)):
        of_reason = index[reasons == reason][: min(share, room)]
        room -= len(of_reason)
        kept.insert(0, of_reason)
    return np.concatenate(kept)


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
