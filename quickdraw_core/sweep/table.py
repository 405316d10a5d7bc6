"""The table of a sweep: a row per training, built in or from a TOML file.

A row holds the values that differ from those that all rows share, which in turn differ from a
recipe or from `TrainConfig`'s defaults. All of it is validated before anything is trained.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from quickdraw_core.assignments import flattened
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.metrics.metrics import METRICS
from quickdraw_core.recipes import find_recipe
from quickdraw_core.sweep.built_in_tables import TABLES
from quickdraw_core.training.config import DECISIVE, TrainConfig

_OF_THE_SWEEP = ("store", "run_dir", "fresh", "tracking.uri", "hosts")
"""Options that no row may set: the sweep sets them for all rows."""


def _metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(f"unknown metric; {nearest(value, METRICS)}")
    return value


class SweepRow(Config):
    """One training of a sweep."""

    name: str = Field(min_length=1, description="name in tables and figures; unique")
    values: dict[str, Any] = Field(
        {}, description="options of TrainConfig that differ from the table's"
    )
    reported: float | None = Field(
        None, description="value that somebody else reported, in the metric's own unit"
    )
    shown_as_failed: bool = Field(
        False, description="a deliberate mistake: shown, but not part of the comparison"
    )

    @field_validator("name")
    @classmethod
    def _can_be_named(cls, name: str) -> str:
        if "," in name or name != name.strip():
            raise ValueError("--rows could not name it; remove commas, and spaces around it")
        return name

    @property
    def slug(self) -> str:
        """The name as the beginning of a folder's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "row"


class PublishedValue(Config):
    """What somebody else measured with so many drawings a class, beside a learning curve."""

    drawings_a_class: int = Field(ge=1, description="train drawings of a class")
    metric: Annotated[str, AfterValidator(_metric)] = Field(description="which metric it is of")
    value: float = Field(description="in the metric's own unit; of several values the lowest")
    highest: float | None = Field(None, description="the highest of several values")
    note: str = Field(min_length=1, description="of which classes, how; stands beside it")

    @model_validator(mode="after")
    def _highest_is_highest(self) -> Self:
        if self.highest is not None and self.highest < self.value:
            raise ValueError(f"highest {self.highest:g} is below value {self.value:g}; swap them")
        return self

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return self.value, self.value if self.highest is None else self.highest


class SweepTable(Config):
    """All trainings of a sweep, and what they are compared by."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="name of the sweep, and of its folder"
    )
    description: str = Field("", description="what the table shows")
    metric: Annotated[str, AfterValidator(_metric)] = Field(
        "top_3", description="metric of the held-out drawings by which rows are compared"
    )
    recipe: str | None = Field(None, description="row of RECIPES to start from; none: defaults")
    values: dict[str, Any] = Field({}, description="options of TrainConfig, for all rows")
    rows: tuple[SweepRow, ...] = Field(min_length=1, description="the trainings, in order")
    published: tuple[PublishedValue, ...] = Field(
        (), description="values of others, to see beside the learning curve of the rows"
    )

    @field_validator("rows")
    @classmethod
    def _names_differ(cls, rows: tuple[SweepRow, ...]) -> tuple[SweepRow, ...]:
        by_slug: dict[str, str] = {}
        for row in rows:
            if row.slug in by_slug:
                raise ValueError(
                    f"rows {by_slug[row.slug]!r} and {row.name!r} would share a folder; give each "
                    "a name of its own letters and digits"
                )
            by_slug[row.slug] = row.name
        return rows

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if all(row.shown_as_failed for row in self.rows):
            raise ValueError("all rows are shown_as_failed; there must be one to compare with")
        return self

    def chosen(self, names: tuple[str, ...]) -> tuple[SweepRow, ...]:
        """The rows of these names, in the table's order; all rows if no name is given."""
        known = [row.name for row in self.rows]
        for name in names:
            if name not in known:
                raise ConfigError(f"table {self.name} has no row {name!r}: {nearest(name, known)}")
        return tuple(row for row in self.rows if not names or row.name in names)


def read_table(reference: str) -> SweepTable:
    """A built-in table by its name, or the table of a TOML file.

    Raises `ConfigError`: no such table, a file that cannot be read, an unknown key.
    """
    if reference in TABLES:
        return _parse(TABLES[reference](), f"table {reference}", reference)
    path = Path(reference)
    if path.suffix != ".toml" and not path.is_file():
        raise ConfigError(
            f"no table {reference!r}: {nearest(reference, TABLES)}, or give a TOML file"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the table {path} cannot be read: {error.strerror}; give a built-in name "
            f"({', '.join(TABLES)}) or a TOML file"
        ) from error
    except ValueError as error:  # of TOML, and bytes that are no UTF-8
        raise ConfigError(f"the table {path} is no TOML: {error}") from error
    return _parse(values, str(path), path.stem)


def configs_of(table: SweepTable, changes: Mapping[str, Any]) -> dict[str, TrainConfig]:
    """Row name → its training; `changes` are applied last, to all of them.

    Raises `ConfigError` that names table and row; also for published values beside rows that
    make no learning curve.
    """
    base = find_recipe(table.recipe) if table.recipe is not None else TrainConfig()
    configs = {}
    for row in table.rows:
        values = TrainConfig.layered(table.values, row.values, changes)
        try:
            for key in _OF_THE_SWEEP:
                if key in values or key in flattened(values):
                    raise ConfigError(
                        f"option {key!r} is the sweep's own, no row's; leave it out there"
                    )
            configs[row.name] = base.updated(values)
        except ConfigError as error:
            raise ConfigError(f"table {table.name}, row {row.name!r}: {error}") from error
    if table.published and "per_class" in (changes.get("select") or {}):
        raise ConfigError(
            f"table {table.name}: its rows are compared by their select.per_class; leave that out "
            "of the changes"
        )
    if table.published and not differ_in_drawings_alone(table, configs):
        raise ConfigError(
            f"table {table.name}: published values are for a learning curve, whose rows differ in "
            "select.per_class and in nothing else; found other rows: leave out published, or let "
            "nothing else differ"
        )
    return configs


def differ_in_drawings_alone(table: SweepTable, configs: Mapping[str, TrainConfig]) -> bool:
    """Whether the rows, but those shown as failed, differ in `select.per_class` alone, and do."""
    rows = [configs[row.name] for row in table.rows if not row.shown_as_failed]
    without = {"select": {"per_class"}}
    others = [config.model_dump(include=DECISIVE, exclude=without) for config in rows]
    numbers = {config.select.per_class for config in rows}
    return len(numbers) > 1 and all(other == others[0] for other in others)


def _parse(values: Mapping[str, Any], where: str, default_name: str) -> SweepTable:
    """Parses the rows first and one by one, so that an error names its row."""
    for key in values:  # first: a misspelled key is also a missing one
        if key not in SweepTable.model_fields:
            raise ConfigError(
                f"{where}: unknown option {key!r}: {nearest(key, SweepTable.model_fields)}"
            )
    rows = values.get("rows", ())
    if not isinstance(rows, list | tuple):
        raise ConfigError(f"{where}: rows must be a list of tables ([[rows]]), found {rows!r}")
    parsed = []
    for number, row in enumerate(rows, 1):
        name = row.get("name") if isinstance(row, Mapping) else None
        try:
            parsed.append(SweepRow.parse(row))
        except ConfigError as error:
            raise ConfigError(f"{where}, row {name or number!r}: {error}") from error
    try:
        return SweepTable.parse({"name": default_name} | dict(values) | {"rows": tuple(parsed)})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
