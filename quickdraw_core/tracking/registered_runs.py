"""Which runs the models of MLflow's registry come from, whoever registered them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.problems import mlflow_errors
from quickdraw_core.tracking.registry import SCHEME, WEIGHTS_TAG
from quickdraw_core.tracking.runs import brief_requests, client, is_missing


class RegisteredRun(NamedTuple):
    """A version of a registered model: its run, and the aliases that it holds."""

    run_id: str
    reference: str
    aliases: tuple[str, ...]
    weights_sha256: str

    @property
    def described(self) -> str:
        """As `champion of quickdraw (models:/quickdraw/3)`; without an alias, its reference."""
        name = self.reference.removeprefix(SCHEME).rpartition("/")[0]
        of = f"{', '.join(self.aliases)} of {name} " if self.aliases else ""
        return f"{of}({self.reference})" if of else self.reference


def registered_runs(uri: str) -> list[RegisteredRun]:
    """All versions of all models. Raises `TrackingError`."""
    if uri == NO_TRACKING or is_missing(uri):
        return []
    with mlflow_errors(uri), brief_requests():
        mlflow = client(uri)
        models = _all_pages(lambda token: mlflow.search_registered_models(page_token=token))
        versions = _all_pages(lambda token: mlflow.search_model_versions(page_token=token))
    aliases: dict[tuple[str, str], list[str]] = {}
    for model in models:
        for alias, number in model.aliases.items():
            aliases.setdefault((model.name, str(number)), []).append(alias)
    return [
        RegisteredRun(
            str(version.run_id or ""),
            f"{SCHEME}{version.name}/{version.version}",
            tuple(sorted(aliases.get((version.name, str(version.version)), ()))),
            str(version.tags.get(WEIGHTS_TAG, "")),
        )
        for version in versions
    ]


def _all_pages(page: Callable[[str | None], Any]) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        entries = page(token)
        found += entries
        token = entries.token
        if not token:
            return found
