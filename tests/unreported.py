"""An evaluation without its report, whose figures take longer than all else that it does."""

from pathlib import Path

import pytest

from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.evaluation.result import EvaluateResult


def empty_report(_: object, folder: Path) -> list[Path]:
    """Writes an empty page and no figures."""
    (folder / "report.html").write_text("")
    return []


def evaluate_unreported(config: EvaluateConfig) -> EvaluateResult:
    """As `evaluate`, with an empty page for a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quickdraw_core.evaluation.run_evaluation.write_report", empty_report)
        return evaluate(config)
