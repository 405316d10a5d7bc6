"""The order of a sweep's rows, their time, and its figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.diagnosis.curves import Curve
from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.reporting.figure import label_heights
from quickdraw_core.sweep.figures import draw_figures, row_labels, smoothed
from quickdraw_core.sweep.results import RowResult, compare_orders, training_seconds

# The order, and the time


def row_of(name: str, reported: float | None, low: float, high: float, **more: Any) -> RowResult:
    measured = Estimate((low + high) / 2, low, high, 100)
    values: dict[str, Any] = {"model": "net", "loss": "cross_entropy", "optimizer": "adam",
              "schedule": "step", "shown_as_failed": False, "scores": {}, "seconds": 1.0,
              "images_per_second": 1.0, "failure": None, "run_dir": Path(name),
              "mlflow_run_id": "", "curves": {}}  # fmt: skip
    return RowResult(name=name, reported=reported, measured=measured, **values | more)


def test_an_order_is_only_told_where_intervals_do_not_overlap() -> None:
    rows = [
        row_of("best", 0.9, 0.80, 0.84),
        row_of("equal", 0.9, 0.70, 0.75),
        row_of("near", 0.8, 0.74, 0.79),
        row_of("worst", 0.6, 0.90, 0.95),
        row_of("mistake", 0.1, 0.0, 0.1, shown_as_failed=True),
        row_of("not reported", None, 0.0, 0.1),
        replace(row_of("not run", 0.5, 0.0, 0.1), measured=None),
    ]
    verdicts = {(p.upper.name, p.lower.name): p.verdict for p in compare_orders(rows)}
    assert verdicts == {
        ("best", "equal"): "differs",
        ("best", "near"): "agrees",
        ("best", "worst"): "differs",
        ("equal", "near"): "open",
        ("equal", "worst"): "differs",
        ("near", "worst"): "differs",
    }


def test_the_time_is_that_of_all_attempts_and_of_nothing_between() -> None:
    records = [
        {"status": "RUNNING", "time_ms": 1_000},
        {"step": 1, "time_ms": 3_000, "metrics": {}},  # and killed
        {"status": "RUNNING", "time_ms": 60_000},
        {"step": 2, "time_ms": 61_000, "metrics": {}},
        {"status": "FINISHED", "time_ms": 64_000},
        {"step": 0, "time_ms": 99_000, "metrics": {}, "again": True},  # an evaluation
    ]
    assert training_seconds(records) == 6
    assert training_seconds([*records[:4], records[-1]]) == 3
    assert training_seconds([]) == 0


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.floats(0.001, 0.5),
)
def test_labels_stand_apart_in_the_order_of_their_lines(
    heights: list[float], least: float
) -> None:
    places = label_heights(heights, least, 0, 1)
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(np.array(places)[order])
    assert (gaps > -1e-9).all()
    assert gaps.min(initial=1) >= min(least, 1 / max(1, len(heights) - 1)) - 1e-9
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9


def test_rows_that_differ_in_something_else_have_names_of_their_own() -> None:
    rows = [
        row_of("a", 0.9, 0, 1),
        row_of("b", 0.9, 0, 1, optimizer="sgd"),
        row_of("c", 0.9, 0, 1, optimizer="sgd", schedule="cosine"),
        row_of("rate 0.1", 0.9, 0, 1, model="vgg11"),
        row_of("rate 0.2", 0.9, 0, 1, model="vgg11"),
    ]
    assert row_labels(rows) == ["net, adam", "net, sgd, step", "net, sgd, cosine",
                             "rate 0.1", "rate 0.2"]  # fmt: skip


def test_smoothing_is_the_mean_of_the_points_before() -> None:
    assert smoothed(np.array([4.0, 2.0, 0.0, 6.0]), 2).tolist() == [4, 3, 1, 3]
    assert smoothed(np.array([4.0, 2.0]), 1).tolist() == [4, 2]


def test_figures_are_drawn_of_what_is_there(tmp_path: Path) -> None:
    steps = np.arange(1, 50)
    curves = {
        "train/loss": Curve(steps, 3 / steps), "validation/top_3": Curve(steps, 1 - 1 / steps)
    }  # fmt: skip
    right = row_of("a", 0.9, 0, 1, curves=curves)
    assert draw_figures([row_of("none", 0.9, 0, 1)], tmp_path) == ()
    assert {p.name for p in draw_figures([right], tmp_path)} == {
        "loss-by-network.png", "loss-by-network.svg",
    }  # fmt: skip
    other = row_of("b", 0.9, 0, 1, curves=curves, loss="hinge")
    failed = row_of("c", None, 0, 1, curves=curves, loss="nll_without_log", shown_as_failed=True)
    drawn = draw_figures([right, other, failed], tmp_path)
    assert {p.stem for p in drawn} == {"loss-by-network", "accuracy-by-loss", "failed-training"}
    text = (tmp_path / "failed-training.svg").read_text()
    assert "loss below zero" in text
    assert "hinge" in (tmp_path / "accuracy-by-loss.svg").read_text()


STEPS = np.arange(1, 50)
FALLING = {"train/loss": Curve(STEPS, 3 / STEPS), "validation/top_3": Curve(STEPS, 1 - 1 / STEPS)}


def test_another_failure_is_not_called_a_forgotten_log(tmp_path: Path) -> None:
    """And lines whose losses are the same have the rows' names."""
    right = row_of("Careful", 0.9, 0, 1, curves=FALLING)
    failed = row_of("Cost $5 or $6_", None, 0, 1, curves=FALLING, shown_as_failed=True)
    draw_figures([right, failed], tmp_path)
    text = (tmp_path / "failed-training.svg").read_text()
    assert "Failed on purpose: Cost $5 or $6_" in text
    assert "below zero" not in text
    assert "sure of it" not in text
    assert ">cross_entropy<" not in text
    assert ">Careful<" in text
    assert text.count(">Cost $5 or $6_<") == 2


@pytest.mark.parametrize("loss", ["nll_without_log", "cross_entropy"])
@pytest.mark.parametrize("accuracy", [None, np.full(49, np.nan)], ids=["none", "nan"])
def test_a_failure_before_the_first_validation_is_drawn_all_the_same(
    tmp_path: Path, loss: str, accuracy: np.ndarray[Any, Any] | None
) -> None:
    curves = {"train/loss": Curve(STEPS, np.where(STEPS < 20, 3.0 / STEPS, np.inf))}
    if accuracy is not None:
        curves["validation/top_3"] = Curve(STEPS, accuracy)
    failed = row_of("c", None, 0, 1, curves=curves, loss=loss, shown_as_failed=True)
    drawn = draw_figures([row_of("a", 0.9, 0, 1, curves=curves), failed], tmp_path)
    assert {path.stem for path in drawn} == {"loss-by-network", "failed-training"}
    text = (tmp_path / "failed-training.svg").read_text()
    assert "What it learns meanwhile" not in text
    assert (">0: the least that a right loss can be<" in text) == (loss == "nll_without_log")
