"""Sources → store. The task is one stage of the core; Dask works inside it."""

from prefect import flow

from flows.alerts.events import alerting
from flows.artifacts import add_page
from flows.stages import StageTask
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import INGEST_STAGE
from quickdraw_core.ingest.result import IngestResult
from quickdraw_core.ingest.summary import ingest_markdown

ingest_stage = StageTask(
    INGEST_STAGE,
    "Brings the store to what the configuration asks for.",
    show=lambda result: add_page("ingest", ingest_markdown, result),
)


@flow(
    name="ingest",
    flow_run_name="ingest {config.source[0]}",
    on_failure=alerting(),
    on_crashed=alerting(),
)
def ingest(config: IngestConfig) -> IngestResult:
    """Reads doodles from files into a store. One that cannot be read costs its class: the flow
    then fails at its end, with the others in the store.
    """
    return ingest_stage(config)
