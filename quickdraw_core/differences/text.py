"""What differs, as a table, lines and Markdown. Pure."""

from collections.abc import Sequence

from quickdraw_core.differences.why import Why
from quickdraw_core.metrics.comparison_text import markdown_table, short_name


def why_table(answer: Why) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: group (at its first row), name, and the value of each model."""
    heads = ["differs in", "", short_name(answer.first), short_name(answer.second)]
    rows, before = [], ""
    for row in answer.rows:
        rows.append([row.group if row.group != before else "", row.name, row.first, row.second])
        before = row.group
    return heads, rows


def why_lines(answer: Why) -> list[str]:
    """The answer in a sentence; what is not recorded, and why more is not known."""
    missing = (answer.not_recorded or {}).items()
    return [
        answer.sentence,
        *(f"not recorded for {name}: {'; '.join(what)}" for name, what in missing),
        *answer.problems,
    ]


def why_markdown(answers: Sequence[Why]) -> list[list[str]]:
    """The lines of a section for each answer."""
    pages = []
    for answer in answers:
        lines = ["### Why they differ", ""]
        lines += [line for text in why_lines(answer) for line in (f"- {text}", "")]
        lines += markdown_table(*why_table(answer)) if answer.rows else []
        pages.append([*lines, ""])
    return pages


def why_tag(answer: Why) -> str:
    """All of it in one text, for a tag in MLflow."""
    rows = [f"{row.group} {row.name}: {row.first} → {row.second}" for row in answer.rows]
    return "\n".join([*why_lines(answer), *rows])
