"""Sources → store. The task is one call into the core; Dask works inside it."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.policy import fresh_once
from flows.stages import Stage, options_of
from flows.telling import show
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.result import IngestResult, LeftOutError
from quickdraw_core.ingest.run import ingest as run_ingest
from quickdraw_core.ingest.run import is_finished, source_stamps
from quickdraw_core.ingest.target import FRESH_NAME, is_begun_anew
from quickdraw_core.ingest.told import ingest_markdown
from quickdraw_core.store.location import Location
from quickdraw_core.store.manifest import MANIFEST_NAME, PREVIOUS_NAME


def _ingest(config: IngestConfig) -> IngestResult:
    """Brings the store to what the configuration asks for."""
    if config.fresh:
        begun = config.store / FRESH_NAME
        written = [begun] if is_begun_anew(config.store) else _manifests(config)
        config = fresh_once(config, *written)
    try:
        result = run_ingest(config)
    except LeftOutError as error:
        _show(error.result)
        raise
    _show(result)
    return result


def _manifests(config: IngestConfig) -> list[Location]:
    return [config.store / name for name in (MANIFEST_NAME, PREVIOUS_NAME)]


def _show(result: IngestResult) -> None:
    show(lambda: create_markdown_artifact(ingest_markdown(result), key="ingest"))


def _inputs(config: IngestConfig) -> object:
    options = options_of(config, "source", "store", "dask", "tls", "workers")
    return [source_stamps(config), options, config.store.absolute()]


ingest_stage = Stage("ingest", _ingest, _inputs, is_finished)


@flow(name="ingest", flow_run_name="ingest {config.source[0]}")
def ingest(config: IngestConfig) -> IngestResult:
    """Reads doodles from files into a store. One that cannot be read costs its class: the flow
    then fails at its end, with the others in the store.
    """
    return ingest_stage(config)
