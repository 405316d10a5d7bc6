"""Sources → store. The task is one call into the core; Dask works inside it."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.policy import fresh_once
from flows.stages import Stage, options_of
from flows.telling import show
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.run import IngestResult, is_finished, source_stamps
from quickdraw_core.ingest.run import ingest as run_ingest
from quickdraw_core.ingest.told import ingest_markdown
from quickdraw_core.store.manifest import MANIFEST_NAME, PREVIOUS_NAME


def _ingest(config: IngestConfig) -> IngestResult:
    """Brings the store to what the configuration asks for."""
    if config.fresh:
        manifests = [config.store / name for name in (MANIFEST_NAME, PREVIOUS_NAME)]
        config = fresh_once(config, *manifests)
    result = run_ingest(config)
    show(lambda: create_markdown_artifact(ingest_markdown(result), key="ingest"))
    return result


def _inputs(config: IngestConfig) -> object:
    options = options_of(config, "source", "store", "dask", "tls", "workers")
    return [source_stamps(config), options, config.store.absolute()]


ingest_stage = Stage("ingest", _ingest, _inputs, is_finished)


@flow(name="ingest", flow_run_name="ingest {config.source[0]}")
def ingest(config: IngestConfig) -> IngestResult:
    """Reads doodles from files into a store."""
    return ingest_stage(config)
