"""The base of every stage's configuration: frozen, strict, with errors that a person can use.

One model validates the command line, `--set a.b=c` and the parameters of a Prefect deployment.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from quickdraw_core.assignments import merged
from quickdraw_core.credentials import set_apart_within
from quickdraw_core.errors import ConfigError, nearest


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

    @model_validator(mode="before")
    @classmethod
    def _means_what_it_says(cls, values: Any) -> Any:
        """`none` is no value where there may be none, not a file or a folder of that name; and a
        number is not `true`, which pydantic takes for 1.
        """
        if not isinstance(values, Mapping):
            return values
        return {name: cls._meant(name, value) for name, value in values.items()}

    @classmethod
    def _meant(cls, name: str, value: Any) -> Any:
        field = cls.model_fields.get(name)
        if field is None:
            return value
        kinds = get_args(field.annotation) or (field.annotation,)
        if isinstance(value, bool) and {int, float} & {*kinds} and bool not in kinds:
            raise ConfigError(f"option {name!r}: must be a number, found {str(value).lower()}")
        is_none = isinstance(value, str) and value.strip().casefold() in ("none", "null")
        if is_none and type(None) in kinds:
            return cls.none_is.get(name)
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
        return self.parse(merged(self.model_dump(), changes))


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first fault of a validation error, in one line."""
    fault = error.errors(include_url=False)[0]
    path = [str(part) for part in fault["loc"]]
    name = ".".join(path) or model.__name__
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        owner = _owner(model, path[:-1])
        return f"unknown option {name!r}: {nearest(path[-1], owner.model_fields)}{more}"
    reason = fault["msg"].removeprefix("Value error, ")
    found = "" if fault["type"] == "missing" else f", found {fault['input']!r}"
    return f"option {name!r}: {reason}{found}{more}"


def _owner(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    """The nested model at `path`, as far as the path leads through models."""
    for key in path:
        field = model.model_fields.get(key)
        if field is None or not isinstance(field.annotation, type):
            break
        if not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
    return model
