"""MLflow's model registry: numbered versions of a model by name, and an alias that one holds.

A version is one run's best checkpoint, known by the digest of its weights: registering the same
weights again finds the version that is there. `models:/NAME@ALIAS` and `models:/NAME/3` name one.

MLflow moves an alias without asking what it pointed to, so that two who move it at the same
moment cannot both be refused. `move_alias` asks right before and right after; what is left is the
time of one request.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quickdraw_core.errors import (
    CheckpointError,
    ConfigError,
    TrackingError,
    nearest,
)
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.logged_model import find_logged_model
from quickdraw_core.tracking.problems import mlflow_errors
from quickdraw_core.tracking.runs import MISSING, brief_requests, client, is_missing, reader

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SCHEME = "models:/"
WEIGHTS_TAG = "weights_sha256"
STORE_TAG = "store_fingerprint"
LABELS_TAG = "label_map_sha256"

_BY_ALIAS = re.compile(r"([^/:@]+)@([\w\-]+)", re.ASCII)
_BY_NUMBER = re.compile(r"([^/:@]+)/([0-9]+)", re.ASCII)
_ALIAS = re.compile(r"[\w\-]+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RESERVED = re.compile(r"[vV][0-9]+|latest", re.IGNORECASE)


@dataclass(frozen=True)
class Version:
    """A version of a registered model. The digests are of the checkpoint that it stands for."""

    name: str
    number: int
    run_id: str
    weights_sha256: str
    store_fingerprint: str
    label_map_sha256: str

    @property
    def reference(self) -> str:
        """`models:/NAME/3`: this version, whatever becomes of the aliases."""
        return f"{SCHEME}{self.name}/{self.number}"


def is_registered(reference: str) -> bool:
    """Whether a model is named by its place in the registry."""
    return reference.startswith(SCHEME)


def is_by_alias(reference: str) -> bool:
    """Whether a registered model is named by an alias, which may move. Raises `ConfigError`."""
    return _parts(reference)[2]


def _parts(reference: str) -> tuple[str, str, bool]:
    """Name, alias or number, whether it is an alias. Raises `ConfigError` for another form."""
    name_and_which = reference.removeprefix(SCHEME)
    by_alias, by_number = _BY_ALIAS.fullmatch(name_and_which), _BY_NUMBER.fullmatch(name_and_which)
    match = by_alias or by_number
    if match is None:
        raise ConfigError(
            f"{reference} names no registered model; give models:/NAME@ALIAS or models:/NAME/3"
        )
    name, which = match.groups()
    return name, which, by_alias is not None


def check_name(name: str) -> str:
    """The name of a registered model; `ValueError` if MLflow would not have it."""
    if not name.strip() or any(mark in name for mark in "/:@'\""):
        raise ValueError("the name of a registered model holds none of / : @ and quotes")
    return name


def check_alias(alias: str) -> str:
    """An alias; `ValueError` if MLflow would not have it."""
    if not _ALIAS.fullmatch(alias) or _RESERVED.fullmatch(alias):
        raise ValueError(
            "an alias is letters, digits, _ and -, but not `latest`, nor a v and a number"
        )
    return alias


def find_version(uri: str, reference: str) -> Version:
    """The version that `models:/NAME@ALIAS` or `models:/NAME/3` names.

    Raises `ConfigError` for another form, `CheckpointError` if there is none, or it was not
    registered by this program, `TrackingError` if MLflow is away.
    """
    name, which, by_alias = _parts(reference)
    mlflow = _client(uri, f"{reference} is looked up", reader)
    with _answering(uri):
        get = mlflow.get_model_version_by_alias if by_alias else mlflow.get_model_version
        version = _or_none(lambda: get(name, which))
        if version is None:
            raise CheckpointError(
                f"no model {reference} in MLflow at {uri}: {_what_exists(mlflow, name)}"
            )
    return _version(version)


def alias_holder(uri: str, name: str, alias: str) -> Version | None:
    """The version that holds an alias; None if no version does. Raises as `find_version`."""
    if is_missing(uri):
        return None
    mlflow = _client(uri, f"the {alias} is looked up")
    with _answering(uri):
        version = _or_none(lambda: mlflow.get_model_version_by_alias(name, alias))
    return None if version is None else _version(version)


def register(
    uri: str,
    name: str,
    run_id: str,
    *,
    weights_sha256: str,
    store_fingerprint: str,
    label_map_sha256: str,
    artifact: str,
) -> Version:
    """The version of these weights, made if there is none yet.

    artifact: the checkpoint among the run's files, which the version points to if the run has
    no logged model of the same weights. Raises `TrackingError`.
    """
    mlflow = _client(uri, f"{name} is registered")
    tags = {
        WEIGHTS_TAG: weights_sha256,
        STORE_TAG: store_fingerprint,
        LABELS_TAG: label_map_sha256,
    }
    with _answering(uri):
        _make_model(mlflow, name)
        same = mlflow.search_model_versions(
            f"name = '{name}' and tags.{WEIGHTS_TAG} = '{weights_sha256}'"
        )
        if same:
            return _version(min(same, key=lambda version: int(version.version)))
        experiment_id = mlflow.get_run(run_id).info.experiment_id
        logged = find_logged_model(mlflow, experiment_id, run_id, weights_sha256)
        model_id, source = None, f"runs:/{run_id}/{artifact}"
        if logged is not None:
            # Not `models:/<id>`, which MLflow 3.17 looks up at its global address (of the process
            # that asks) rather than at this client's.
            model_id, source = str(logged.model_id), str(logged.artifact_location)
        made = mlflow.create_model_version(name, source, run_id, tags=tags, model_id=model_id)
    return _version(made)


def move_alias(uri: str, name: str, alias: str, to: Version, judged: Version | None) -> bool:
    """Gives an alias to a version, if it is still with `judged` (None: with no version).

    Returns whether it is with `to` now. Raises `TrackingError`.
    """
    if _number(alias_holder(uri, name, alias)) != _number(judged):
        return False
    mlflow = _client(uri, f"the {alias} is moved")
    with _answering(uri):
        mlflow.set_registered_model_alias(name, alias, str(to.number))
    return _number(alias_holder(uri, name, alias)) == to.number


def describe(uri: str, version: Version, text: str, tags: Mapping[str, str]) -> None:
    """Writes what is to be said of a version. Raises `TrackingError`."""
    mlflow = _client(uri, f"{version.reference} is described")
    with _answering(uri):
        mlflow.update_model_version(version.name, str(version.number), text)
        for key, value in tags.items():
            mlflow.set_model_version_tag(version.name, str(version.number), key, value)


def _number(version: Version | None) -> int | None:
    return None if version is None else version.number


def _client(
    uri: str, what: str, opened: "Callable[[str], MlflowClient]" = client
) -> "MlflowClient":
    if uri == NO_TRACKING:
        raise TrackingError(
            f"tracking is off, but {what} in MLflow's registry; give --tracking-uri"
        )
    return opened(uri)


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    """A block whose requests give up soon, and whose errors are those of `mlflow_errors`."""
    with mlflow_errors(uri), brief_requests():
        yield


def _or_none(ask: "Callable[[], ModelVersion]") -> "ModelVersion | None":
    """The answer; None if there is no such model, version or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code in MISSING:
            return None
        raise


def _make_model(mlflow: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _what_exists(mlflow: "MlflowClient", name: str) -> str:
    """What there is instead of a version that does not exist."""
    models = {model.name: model for model in mlflow.search_registered_models()}
    if not models:
        return "no model is registered there; quickdraw promote does it"
    if name not in models:
        return f"no model {name}; {nearest(name, models)}"
    aliases = [f"@{alias} ({number})" for alias, number in sorted(models[name].aliases.items())]
    numbers = [int(v.version) for v in mlflow.search_model_versions(f"name = '{name}'")]
    versions = f"versions 1 to {max(numbers)}" if numbers else "no version"
    named = f"the aliases {', '.join(aliases)}" if aliases else "no alias"
    return f"{name} has {versions} and {named}"


def _version(entry: "ModelVersion") -> Version:
    missing = [tag for tag in (WEIGHTS_TAG, STORE_TAG, LABELS_TAG) if not entry.tags.get(tag)]
    if missing or not entry.run_id:
        raise CheckpointError(
            f"version {entry.version} of {entry.name} was not registered by quickdraw promote: it "
            f"has no {', '.join(missing) or 'run'}; promote its run, or give the run's id"
        )
    if not _SHA256.fullmatch(str(entry.tags[WEIGHTS_TAG])):
        raise CheckpointError(
            f"version {entry.version} of {entry.name} has a tag {WEIGHTS_TAG} that is no SHA-256 "
            "of 64 digits; promote its run again"
        )
    return Version(
        name=str(entry.name),
        number=int(entry.version),
        run_id=str(entry.run_id),
        weights_sha256=str(entry.tags[WEIGHTS_TAG]),
        store_fingerprint=str(entry.tags[STORE_TAG]),
        label_map_sha256=str(entry.tags[LABELS_TAG]),
    )
