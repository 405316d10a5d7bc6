"""Why two models differ: what differs in what is recorded of them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quickdraw_core.differences.recorded import GROUPS, PLANNED_STEPS, Recorded
from quickdraw_core.errors import first_few

_WIDTH = 44
"""Characters of a value in a table."""
_DIGEST = 12
_COMMIT, _WHOLE_CODE, _STORE = "git commit", "training code", "store"
_DIGESTS = ("select.exclude_sha256", "select.also_fingerprint")
_DIGEST_LISTS = ("distill.teachers_sha256", "teachers_sha256")
_PACKAGES = {"drawing", "labels", "loading", "modeling", "render", "store", "training"}
"""Packages whose digest a training records."""
_NAMED = 3
_BUDGETS = ("epochs", "max_steps", "max_minutes")


@dataclass(frozen=True)
class Row:
    """One thing that differs. group: a name of GROUPS. first, second: as people read them, never
    the same text. values: both as they were recorded.
    """

    group: str
    name: str
    first: str
    second: str
    values: tuple[Any, Any]

    def to_json(self) -> dict[str, Any]:
        """As plain values: those that were recorded, whole."""
        first, second = self.values
        return {"group": self.group, "name": self.name, "first": first, "second": second}


@dataclass(frozen=True)
class Why:
    """What differs between a first and a second model.

    sentence: all of it in one. rows: by group; without what is alike. not_recorded: name of the
    model → what the other one's training recorded and its did not.
    """

    first: str
    second: str
    sentence: str
    rows: tuple[Row, ...] = ()
    not_recorded: Mapping[str, Sequence[str]] | None = None
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "first": self.first,
            "second": self.second,
            "sentence": self.sentence,
            "differences": [row.to_json() for row in self.rows],
            "not_recorded": {name: list(what) for name, what in (self.not_recorded or {}).items()},
            "problems": list(self.problems),
        }


def why(first: Recorded, second: Recorded) -> Why:
    """What differs between two models, and whether it is all in one thing."""
    problems = tuple(side.problem for side in (first, second) if side.problem)
    ensembles = [side for side in (first, second) if side.members]
    if ensembles or not (first.groups and second.groups):
        return Why(first.name, second.name, _cannot_say(first, second), problems=problems)
    first, second = _flat(first, second), _flat(second, first)
    rows = tuple(row for group in GROUPS for row in _rows(group, first, second))
    not_recorded = {
        side.name: missing
        for side, other in ((first, second), (second, first))
        if (missing := _missing(side, other))
    }
    sentence = _sentence(first, second, rows, bool(not_recorded))
    return Why(first.name, second.name, sentence, rows, not_recorded, problems)


def _flat(side: Recorded, other: Recorded) -> Recorded:
    """A side whose options that are groups of values, such as `augment`, are a value each; not if
    the other side has none of them.
    """
    mine, theirs = side.groups.get("options", {}), other.groups.get("options", {})
    options: dict[str, Any] = {}
    for name, value in mine.items():
        is_group = isinstance(value, Mapping) and isinstance(theirs.get(name), Mapping)
        options |= {f"{name}.{k}": v for k, v in value.items()} if is_group else {name: value}
    return replace(side, groups={**side.groups, "options": options}) if mine else side


def _rows(group: str, first: Recorded, second: Recorded) -> list[Row]:
    """What both sides recorded differently in a group."""
    a, b = first.groups.get(group, {}), second.groups.get(group, {})
    names = [name for name in a if name in b]
    if group == "code" and _PACKAGES & set(names):
        packages_are_same = all(a[name] == b[name] for name in _PACKAGES & set(names))
        # A commit that changed nothing of the training's code is no difference.
        hidden = (_WHOLE_CODE, _COMMIT) if packages_are_same else (_WHOLE_CODE,)
        names = [name for name in names if name not in hidden]
    return [
        Row(group, name, *_texts(a[name], b[name], name), (a[name], b[name]))
        for name in names
        if a[name] != b[name]
    ]


def _missing(side: Recorded, other: Recorded) -> list[str]:
    """What the other side's training recorded and this one's did not; energy and the like are
    not among it, since a machine may not measure them.
    """
    missing = []
    for group in GROUPS:
        if group == "cost":
            continue
        mine, theirs = side.groups.get(group, {}), other.groups.get(group, {})
        names = [name for name in theirs if name not in mine]
        if group == "code" and set(names) >= _PACKAGES:
            names = ["digest of each package", *(n for n in names if n not in _PACKAGES)]
        missing += [f"{group}: {first_few(names)}"] if names else []
    return missing


def _sentence(
    first: Recorded, second: Recorded, rows: Sequence[Row], is_less_recorded: bool
) -> str:
    causes = [row for row in rows if _is_cause(row, first, second)]
    known = ", as far as it is recorded" if is_less_recorded else ""
    if first.weights and first.weights == second.weights and not causes:
        return f"{second.name} and {first.name} have the same weights"
    if not causes:
        return (
            f"nothing differs{known}: options, code, data and environment are the same; what "
            "remains is chance, such as the order in which threads add"
        )
    if len(causes) <= _NAMED:
        named = " and ".join(
            filter(None, [", ".join(map(_named, causes[:-1])), _named(causes[-1])])
        )
        return f"nothing differs but {named}{known}"
    groups = [group for group in GROUPS if any(row.group == group for row in causes)]
    # As many as the table has of these groups, so with the planned steps that follow from others.
    counts = [sum(row.group == group for row in rows) for group in groups]
    by_group = [f"{group} ({count})" for group, count in zip(groups, counts, strict=True)]
    return f"{sum(counts)} things differ{known}: {', '.join(by_group)}"


def _is_cause(row: Row, first: Recorded, second: Recorded) -> bool:
    """Cost is an effect; so is the best step, but for two checkpoints of one training, and the
    number of planned steps, but of a budget of minutes, which gives another on another machine.
    """
    if row.group == "model" and row.name == "step":
        return bool(first.run) and first.run == second.run
    if row.name == PLANNED_STEPS:
        a, b = first.groups["options"], second.groups["options"]
        return a.get("max_minutes") is not None and all(a.get(n) == b.get(n) for n in _BUDGETS)
    return row.group != "cost"


def _named(row: Row) -> str:
    name = {"seed": "the seed", _STORE: "the store", "step": "the step"}.get(row.name, row.name)
    return f"{name} ({row.first} and {row.second})"


def _cannot_say(first: Recorded, second: Recorded) -> str:
    """Of ensembles, and of evaluations whose training is not known."""
    parts = []
    for side in (first, second):
        if side.members:
            parts.append(f"{side.name} is an ensemble of {' and '.join(side.members)}")
        elif not side.groups:
            parts.append(f"the training of {side.name} is not recorded")
    return (
        f"{'; '.join(parts)}: only the predictions are compared; to see what differs in the "
        "trainings, compare models one by one, each by its run folder"
    )


def _texts(first: Any, second: Any, name: str) -> tuple[str, str]:
    """Two values that differ, so that people see in what."""
    lists = isinstance(first, list | tuple) and isinstance(second, list | tuple)
    if lists and max(len(first), len(second)) > _NAMED:
        texts = _items_text(first, second), _items_text(second, first)
    else:
        texts = _text(first, name), _text(second, name)
    return texts if texts[0] != texts[1] else (repr(first), repr(second))


def _items_text(items: Sequence[Any], others: Sequence[Any]) -> str:
    """A long list by what only it has."""
    own = [str(item) for item in items if item not in others]
    return f"{len(items)}, only here: {first_few(own, _NAMED)}" if own else f"{len(items)}"


def _text(value: Any, name: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        value = " ".join(f"{k}={_text(v, k)}" for k, v in value.items())
    elif isinstance(value, list | tuple):
        width = _DIGEST if name in _DIGEST_LISTS else None
        value = f"{len(value)}: {first_few([str(v)[:width] for v in value], _NAMED)}"
    elif isinstance(value, int):
        return f"{value:,}" if name != "seed" else str(value)
    elif isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    if name in (_STORE, _COMMIT, *_DIGESTS):
        return text[:_DIGEST]
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
