"""From a source to the tasks that read it: how many rows it has, and which windows are wanted."""

from dataclasses import dataclass

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.target import Target
from quickdraw_core.ingest.window_task import FirstReadTask, WindowTask
from quickdraw_core.reading.row_index import RowIndex, index_rows, require_rows
from quickdraw_core.reading.row_reader import window_groups
from quickdraw_core.reading.windows import RowSelection
from quickdraw_core.sources.files import SourceFile


@dataclass(frozen=True)
class IndexTask:
    """A source whose rows are to be counted, as far as `selection` needs it."""

    source: SourceFile
    selection: RowSelection


@dataclass(frozen=True)
class PlannedSource:
    """A source, and where its rows are."""

    source: SourceFile
    index: RowIndex


def plan_source(task: IndexTask) -> PlannedSource:
    """Counts the rows of a source, from the cached index where there is one.

    Raises `InputError` where it has none.
    """
    source, selection = task.source, task.selection
    enough = selection.rows if selection.kind == "head" else None
    index = index_rows(source, enough)
    require_rows(source, index)
    return PlannedSource(source, index)


def window_tasks(config: IngestConfig, target: Target, planned: PlannedSource) -> list[WindowTask]:
    """One task a window; one for all windows of a file that is read from its beginning only."""
    groups = window_groups(planned.source, planned.index, config.selection, config.seed)
    salt, smallest = config.salt, config.test_per_class
    return [
        WindowTask(**vars(group), target=target, salt=salt, smallest=smallest) for group in groups
    ]


def first_read_task(config: IngestConfig, target: Target, planned: PlannedSource) -> FirstReadTask:
    """The task of what comes next in a source whose index is not complete."""
    return FirstReadTask(
        planned.source,
        planned.index,
        target=target,
        salt=config.salt,
        smallest=config.test_per_class,
    )
