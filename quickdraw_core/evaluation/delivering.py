"""Who delivers an evaluation to the run that was judged, where that run's folder is here.

Loads nothing heavy: a command may have MLflow loaded by another process before it loads torch.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.outputs import OUTPUTS_NAME
from quickdraw_core.stage import Opened
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.delivery import deliver_rest
from quickdraw_core.tracking.delivery_process import Deliver, delivery_process
from quickdraw_core.tracking.run_record import RunRecord, tracking_uri_of_run


def has_journal(run_dir: Path | None, uri: str) -> bool:
    """Whether a run's journal is here and belongs to the address."""
    record = RunRecord.read(run_dir) if run_dir is not None else None
    return record is not None and record.uri == uri


@contextmanager
def delivering_ahead(config: EvaluateConfig, opened: Opened) -> Iterator[None]:
    """A block that has what `delivering_to` gives begin at once, where it will be needed: for the
    model of a run's folder, unless a report is there already.
    """
    run_dir = Path(config.models[0]) if len(config.models) == 1 else None
    if run_dir is None or not run_dir.is_dir() or _is_judged(config, run_dir):
        yield
        return
    uri = tracking_uri_of_run(config.tracking_uri, run_dir)
    with delivering_to(run_dir, uri, Opened()) as deliver:
        opened.keep(_name(uri), deliver)
        yield


def delivering_to(
    run_dir: Path | None, uri: str, opened: Opened
) -> AbstractContextManager[Deliver]:
    """A block with what delivers the journal of a run: where that is here, a process that loads
    MLflow while this one predicts and draws, or has begun to (`delivering_ahead`).
    """
    if uri == NO_TRACKING or not has_journal(run_dir, uri):
        return nullcontext(deliver_rest)
    ahead: Deliver | None = opened.once(_name(uri), lambda: None)
    return delivery_process(uri) if ahead is None else nullcontext(ahead)


def _is_judged(config: EvaluateConfig, run_dir: Path) -> bool:
    """Whether a report is there, so that there may be nothing to do."""
    return ((config.report_dir or run_dir / "evaluation") / OUTPUTS_NAME).exists()


def _name(uri: str) -> tuple[str, str]:
    return "deliver", uri
