"""A run's parameters with changes (`--set`, `--from`), and what each of its stages would do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from prefect import Flow
from prefect.utilities.importtools import import_object

from quickdraw_core.assignments import flattened
from quickdraw_core.config import Config
from quickdraw_core.credentials import set_apart_within
from quickdraw_core.errors import ConfigError, nearest
from quickdraw_core.pipeline import Pipeline, find_stage, plan_pipeline
from quickdraw_core.recipes import RecipedConfig
from quickdraw_core.redaction import without_secrets
from quickdraw_core.stage import Opened, Outlook, Stage
from quickdraw_core.training.config import TrainConfig

_ONE = "config"
"""The parameter of a flow with one stage."""
_REDO = "redo_from"
_WITH_PLAN = ("ingest", "train", "evaluate", "promote", "compare")
"""Flows of one stage, each of which has a task of its name in its module."""


@dataclass(frozen=True)
class Changed:
    """A run's parameters after changes. differences: of each changed value its key, what it was
    and what it is now.
    """

    parameters: dict[str, Any]
    differences: tuple[tuple[str, str, str], ...]


def changed(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any],
    changes: Mapping[str, Any],
    redo_from: str | None,
) -> Changed:
    """Lays changes over the parameters of a run of a flow. Pure.

    changes: nested, as `parse_assignments` gives them; those of a flow with one stage without its
    parameter's name. What the run itself was asked to do anew is not done anew once more. A
    training in a folder of its own whose decisive options change gets another folder, beside it.
    Raises `ConfigError`.
    """
    configs = _configs_of(flow)
    by_name = {_ONE: dict(changes)} if _ONE in configs and changes else dict(changes)
    result = dict(parameters)
    for name, values in by_name.items():
        if name not in configs:
            meant = nearest(name, configs)
            raise ConfigError(f"--set {name}…: begin with the name of a stage; {meant}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"--set {name}=…: give a key of it as well, as {name}.seed=1")
        if parameters.get(name) is None:
            raise ConfigError(f"--set {name}.…: the run has no {name}")
        result[name] = _laid_over(configs[name], parameters[name], values)
    result.pop(_REDO, None)  # what the earlier run was asked for is done, or begun
    if redo_from is not None:
        result[_REDO] = _stage_to_redo(flow, redo_from, result)
    return Changed(result, tuple(_differences(parameters, result)))


def plan(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any],
    opened: Opened,
    begun: float | None = None,
) -> dict[str, Outlook]:
    """What each stage of a run would do in the working folder, and why. Writes nothing.

    begun: when a run that goes on was first begun, in seconds since the epoch; None for a new one.
    Raises `ConfigError` for a flow that is no row of stages, and what the stages raise before
    work.
    """
    given = flow.validate_parameters(dict(parameters))
    if flow.name == "pipeline":
        given["train"] = given["train"].whole()
        return plan_pipeline(Pipeline(**given), opened, begun)
    if flow.name not in _WITH_PLAN:
        raise ConfigError(
            f"a run of {flow.name} has no plan: it decides row by row; there is one of pipeline, "
            f"{', '.join(_WITH_PLAN)}"
        )
    stage: Stage[Any, Any] = import_object(f"flows.{flow.name}.{flow.name}_stage").stage
    config = given[_ONE]
    config = config.whole() if isinstance(config, RecipedConfig) else config
    if begun is not None:
        config = stage.going_on(config, begun, opened)
    return {flow.name: stage.outlook(config, opened)}


def _configs_of(flow: Flow[..., Any]) -> dict[str, type[Config]]:
    """The flow's parameters that are configurations, and which."""
    found: dict[str, type[Config]] = {}
    for name, annotation in get_type_hints(flow.fn).items():
        for kind in (annotation, *get_args(annotation)):
            if name != "return" and isinstance(kind, type) and issubclass(kind, Config):
                found[name] = kind
    return found


def _laid_over(
    model: type[Config], before: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """A configuration's values with changes. Raises `ConfigError`."""
    layered: dict[str, Any] = set_apart_within(model.layered(before, values))
    new = model.parse(layered)
    if isinstance(new, TrainConfig) and new.run_dir is not None and "run_dir" not in values:
        old = model.parse(before)
        assert isinstance(old, TrainConfig)
        if old.identity("") != new.identity(""):
            layered["run_dir"] = f"{new.run_dir}-{new.identity('')}"
    return layered


def _stage_to_redo(flow: Flow[..., Any], name: str, parameters: Mapping[str, Any]) -> str:
    """The stage that a run is to begin anew from. Raises `ConfigError`."""
    if flow.name != "pipeline":
        raise ConfigError(
            f"--from takes a run of the flow pipeline, and this is one of {flow.name}, which has "
            "no stages to choose from"
        )
    return find_stage(name, promotes=parameters.get("promote") is not None)


def _differences(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    old, new = flattened(before), flattened(after)
    for key in sorted(old.keys() | new.keys()):
        if key != _REDO and old.get(key) != new.get(key):
            yield key, _shown(old.get(key)), _shown(new.get(key))


def _shown(value: Any) -> str:
    return "as its recipe or default" if value is None else without_secrets(str(value))
