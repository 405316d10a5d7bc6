"""The base of every stage's configuration: frozen, strict, with errors that a person can use.

One model validates the command line, `--set a.b=c` and the parameters of a Prefect deployment.
"""

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any, ClassVar, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from quickdraw_core.assignments import merged
from quickdraw_core.credentials import set_apart_within
from quickdraw_core.errors import ConfigError, and_more, nearest


def row_of(table: Mapping[str, object]) -> AfterValidator:
    """Refuses a name that is no row of the table, and says which was probably meant."""

    def check(value: str) -> str:
        if value not in table:
            raise ValueError(f"unknown name; {nearest(value, table)}")
        return value

    return AfterValidator(check)


class Config(BaseModel):
    """A frozen model without unknown keys; `Field(description=…)` gives each value's unit.

    Addresses in it are without their secrets (`credentials.whole_address` gives them back).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    none_is: ClassVar[Mapping[str, str]] = {"tracking_uri": "none"}
    """Options in which `none` is a value, and which."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_secret(cls, values: Any) -> Any:
        """Run folders, checkpoints, MLflow and Prefect keep configurations, for all to read."""
        return set_apart_within(values)

    @field_validator("*", mode="before")
    @classmethod
    def _means_what_it_says(cls, value: Any, info: ValidationInfo) -> Any:
        """`none` means no value where there may be none, not a file or a folder of that name. A
        number is not `true`, which pydantic takes for 1.
        """
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and {int, float} & {*kinds} and bool not in kinds:
            raise ValueError("must be a number")
        is_none = isinstance(value, str) and value.strip().casefold() in ("none", "null")
        if is_none and type(None) in kinds:
            return cls.none_is.get(str(info.field_name))
        return value

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validates `values`; a fault is a one-line `ConfigError` that names key and remedy."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_explain(cls, error)) from error

    def as_text(self) -> str:
        """Which configuration it is. Not pydantic's JSON, which refuses the names of folders that
        are no text.
        """
        return json.dumps(self.model_dump(), sort_keys=True, default=str)

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """A validated copy with `changes`, nested by key, laid over it."""
        return self.parse(self.layered(self.model_dump(), changes))

    @classmethod
    def layered(cls, *layers: Mapping[str, Any]) -> dict[str, Any]:
        """Values, not yet validated: each layer laid over those before it, nested by key. A
        group's short form is its name alone, and leaves its other values as they are.
        """
        groups = {name for name, group in _groups(cls).items() if issubclass(group, NamedConfig)}
        whole = (
            {
                key: {"name": value} if key in groups and isinstance(value, str) else value
                for key, value in layer.items()
            }
            for layer in layers
        )
        return reduce(merged, whole, {})


class NamedConfig(Config):
    """A row of a table, by its `name`, with its options: `model=net` means `model.name=net`."""

    @model_validator(mode="before")
    @classmethod
    def _by_its_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first fault of a validation error, in one line."""
    faults = error.errors(include_url=False)
    # A misspelled key may also be one that is missing.
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    path = [str(part) for part in fault["loc"]]
    name = ".".join(path) or model.__name__
    more = and_more(error.error_count() - 1)
    if fault["type"] == "extra_forbidden":
        owner, prefix = model, ""
        for key in path[:-1]:
            owner, prefix = _groups(owner).get(key, owner), f"{prefix}{key}."
        meant = nearest(path[-1], owner.model_fields, also=_keys(owner), prefix=prefix)
        return f"unknown option {name!r}: {meant}{more}"
    reason = fault["msg"].removeprefix("Value error, ")
    # What several values together do wrong is said by the reason, which names those that matter.
    is_group = fault["type"] == "value_error" and isinstance(fault["input"], Mapping)
    is_found = fault["type"] != "missing" and not is_group
    found = f", found {fault['input']!r}" if is_found else ""
    return f"option {name!r}: {reason}{found}{more}"


def _groups(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields that are groups of values: also those that may be None."""
    return {
        name: kind
        for name, field in model.model_fields.items()
        for kind in (field.annotation, *get_args(field.annotation))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that `--set` takes."""
    groups = _groups(model)
    for name in model.model_fields:
        yield prefix + name
        if name in groups:
            yield from _keys(groups[name], f"{prefix}{name}.")
