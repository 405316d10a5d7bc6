"""Runs, packs, kept results → those that something needs, and what the others weighed."""

from prefect import flow

from flows.alerts.events import alerting
from flows.artifacts import add_page, reported
from flows.configured import results_folder
from flows.needs import needs_of_runs
from quickdraw_core.retention.clean import CleanResult, require_cleaned
from quickdraw_core.retention.clean import clean as clean_up
from quickdraw_core.retention.config import CleanConfig
from quickdraw_core.retention.summary import clean_markdown


@flow(
    name="clean",
    flow_run_name="clean {config.runs}",
    on_failure=alerting(),
    on_crashed=alerting(),
)
def clean(config: CleanConfig) -> CleanResult:
    """Removes runs, checkpoints, packs and kept results that nothing needs and that were not used
    for as long as asked. What a champion, a sweep or a run under way needs stays. If not all could
    be asked or removed, the flow fails at its end.
    """
    asked = config.model_copy(update={"results": config.results or results_folder()})
    with reported("clean"):
        result = clean_up(asked, needs_of_runs(config.older_than_seconds))
    add_page("clean", clean_markdown, result)
    require_cleaned(result)
    return result
