"""The process that delivers an evaluation to the MLflow run of the model, if its folder is here.

Imports nothing heavy, so that a command can start that process before it imports torch.
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
    """A block in which the process of `delivering_to` is started at once if it will be needed: for
    the model of a run's folder that has no report yet.
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
    """A block with a function that delivers a run's journal. If the journal is here, a process
    does it, which loads MLflow while this one predicts; `delivering_ahead` may have started it.
    """
    if uri == NO_TRACKING or not has_journal(run_dir, uri):
        return nullcontext(deliver_rest)
    ahead: Deliver | None = opened.once(_name(uri), lambda: None)
    return delivery_process(uri) if ahead is None else nullcontext(ahead)


def _is_judged(config: EvaluateConfig, run_dir: Path) -> bool:
    """Whether there is a report, so that nothing may be left to do."""
    return ((config.report_dir or run_dir / "evaluation") / OUTPUTS_NAME).exists()


def _name(uri: str) -> tuple[str, str]:
    return "deliver", uri
