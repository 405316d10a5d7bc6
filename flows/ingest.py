"""Sources → store. The task is one call into the core; Dask works inside it."""

from prefect import flow, task

from flows.policy import fresh_once, worth_retrying
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.run import IngestResult
from quickdraw_core.ingest.run import ingest as run_ingest
from quickdraw_core.store.manifest import MANIFEST_NAME, PREVIOUS_NAME


@task(name="ingest", retries=1, retry_delay_seconds=10, retry_condition_fn=worth_retrying)
def ingest_stage(config: IngestConfig) -> IngestResult:
    """Brings the store to what the configuration asks for."""
    if config.fresh:
        manifests = [config.store / name for name in (MANIFEST_NAME, PREVIOUS_NAME)]
        config = fresh_once(config, *manifests)
    return run_ingest(config)


@flow(name="ingest", flow_run_name="ingest {config.source[0]}")
def ingest(config: IngestConfig) -> IngestResult:
    """Reads doodles from files into a store."""
    return ingest_stage(config)
