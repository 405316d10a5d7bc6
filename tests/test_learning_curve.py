"""A metric against the drawings a class: the fit, its intervals, its figure, and whose rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit
from sweeps import TINY, open_sweep, table_file
from test_sweep_figures import row_of

from quickdraw_core.errors import ConfigError
from quickdraw_core.metrics.metrics import METRICS, Estimate
from quickdraw_core.store.store import Store
from quickdraw_core.sweep import finish
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.finish import finish_sweep
from quickdraw_core.sweep.learning_curve import ASKED, FEWEST, LearningCurve, Point
from quickdraw_core.sweep.learning_curve_figure import draw_learning_curve
from quickdraw_core.sweep.plan import PlannedRow
from quickdraw_core.sweep.results import RowResult
from quickdraw_core.sweep.table import PublishedValue, configs_of, read_table

DRAWINGS = np.array([10.0, 25, 50, 100, 290, 574])
SIGMA = 0.003


def point(drawings: float, value: float, half: float = 1.96 * SIGMA) -> Point:
    return Point(f"{drawings:g}", drawings, Estimate(value, value - half, value + half, 3_500))


def curve_of(a: float, b: float, c: float, seed: int | None = None) -> LearningCurve:
    """Of points on the curve, or near it as their intervals say."""
    noise = 0 if seed is None else np.random.default_rng(seed).normal(0, SIGMA, len(DRAWINGS))
    values = 1 - (c + a * DRAWINGS**-b) + noise
    points = [point(n, float(value)) for n, value in zip(DRAWINGS, values, strict=True)]
    return LearningCurve.of("map_at_3", points[::-1], 35)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize(("a", "b", "c"), [(1.2, 0.5, 0.02), (0.6, 0.25, 0.0), (3.0, 0.9, 0.08)])
def test_the_fit_finds_what_the_points_were_made_of(
    a: float, b: float, c: float, seed: int | None
) -> None:
    curve = curve_of(a, b, c, seed)
    for name, true in {"a": a, "b": b, "c": c}.items():
        found = curve.parameters()[name]
        assert found.low - 1e-9 <= true * 1.01 + 1e-3
        assert found.high >= true * 0.99
    assert [prediction.drawings for prediction in curve.predictions()] == list(ASKED)
    widths = []
    for prediction in curve.predictions():
        value, low, high = prediction.expected
        assert low - 1e-3 <= 1 - (c + a * prediction.drawings**-b) <= high + 1e-3
        assert low <= value <= high <= 1
        widths.append(high - low)
    if seed is None:
        assert curve.missed == 0
        assert curve.parameters()["b"].value == pytest.approx(b, rel=0.02)
    assert widths[0] < widths[-1]
    assert [prediction.is_guess for prediction in curve.predictions()] == [False, False, True]


def test_the_fit_is_that_of_scipy() -> None:
    curve = curve_of(1.2, 0.5, 0.03, seed=3)
    errors = [1 - point.measured.value for point in curve.points]
    sigma = np.full(len(errors), SIGMA)
    start, bounds = (1.0, 0.4, 0.01), ([0, 0.02, 0], [np.inf, 3, 1])
    (a, b, c), _ = curve_fit(
        lambda n, a, b, c: c + a * n**-b, DRAWINGS, errors, start, sigma, bounds=bounds
    )
    for n in (*DRAWINGS, *ASKED):
        assert curve.at(n).value == pytest.approx(1 - (c + a * n**-b), abs=1.5e-3)


def test_points_further_off_than_their_intervals_widen_all_of_them() -> None:
    def width(off: float) -> float:
        values = 1 - (0.02 + DRAWINGS**-0.5) + off * np.array([1, -1, 1, -1, 1, -1])
        points = [point(n, float(v)) for n, v in zip(DRAWINGS, values, strict=True)]
        curve = LearningCurve.of("map_at_3", points, 35)
        assert (curve.missed > 0) == (off > 0)
        return curve.at(1_000).high - curve.at(1_000).low

    assert width(0.02) > 2 * width(0)


def test_a_metric_that_falls_is_its_own_error() -> None:
    points = [point(n, float(0.4 + 3 * n**-0.5), 0.01) for n in DRAWINGS]
    curve = LearningCurve.of("log_loss", points, 35)
    values = [prediction.expected.value for prediction in curve.predictions()]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(0.4 + 3 * 1_000**-0.5, abs=0.01)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([point(n, 0.5 + n / 1_000) for n in (10, 20, 40, 40)], "3 finished with different"),
        ([], "0 finished with different numbers of drawings, a fit takes 4"),
        ([point(n, 0.9 - n / 1_000) for n in DRAWINGS], "does not fall with more drawings"),
        ([point(n, 0.7) for n in DRAWINGS], "does not fall with more drawings"),
        ([point(n, np.nan if n == 50 else 0.5) for n in DRAWINGS], "row '50' has no finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_said(points: list[Point], why: str, tmp_path: Path) -> None:
    curve = LearningCurve.of("map_at_3", points, 35)
    assert curve.fit is None
    assert why in curve.without_fit
    assert curve.predictions() == ()
    drawn = draw_learning_curve(curve, tmp_path)
    assert bool(drawn) == bool(points)
    assert all("no fit: " in path.read_text() for path in drawn[1:])


def test_drawings_that_are_all_right_count_with_some_doubt() -> None:
    """Their intervals have no width, which would outweigh all other points."""
    values = 1 - 2 * DRAWINGS**-1.5
    points = [
        point(n, float(v), 0.0 if n > 200 else 0.005)
        for n, v in zip(DRAWINGS, values, strict=True)
    ]
    curve = LearningCurve.of("map_at_3", points, 35)
    assert curve.at(10_000).low < curve.at(10_000).high


PUBLISHED = PublishedValue(
    drawings_a_class=146_000, metric="map_at_3", value=0.892, highest=0.907, note="340 kinds, $5_"
)


def test_the_figure_has_the_points_the_fit_and_what_others_published(tmp_path: Path) -> None:
    points = curve_of(1.2, 0.5, 0.02).points
    other = PUBLISHED.updated({"metric": "top_3", "note": "of another metric"})
    curve = LearningCurve.of("map_at_3", points, 35, [PUBLISHED, other])
    drawn = draw_learning_curve(curve, tmp_path)
    assert [path.name for path in drawn] == ["learning-curve.png", "learning-curve.svg"]
    text = drawn[1].read_text()
    for wanted in ("35 classes", "extrapolated", "a guess", "340 kinds, $5_", "100,000"):
        assert wanted in text
    assert "of another metric" not in text
    draw_learning_curve(LearningCurve.of("map_at_3", points[: FEWEST - 1], 35), tmp_path)
    text = drawn[1].read_text()
    assert "measured" in text
    assert "extrapolated" not in text


# Of a sweep's rows


def table_of(*rows: str, more: str = "") -> str:
    head = TINY.split("[[rows]]")[0]
    named = [f'[[rows]]\nname = "row {i}"\nvalues = {{ {row} }}\n' for i, row in enumerate(rows)]
    return 'metric = "map_at_3"' + head + "".join(named) + more


ROWS = [f"select.per_class = {n}" for n in (10, 15, 20, 25)] + [""]
LINE = (
    '[[published]]\ndrawings_a_class = 5000\nmetric = "map_at_3"\nvalue = 0.5\nnote = "9 words"\n'
)


def finished(
    text: str, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """`sweep.json` of a sweep whose rows' results were made up."""

    def made_up(_: object, row: PlannedRow, failure: str | None) -> RowResult:
        measured = Estimate(1 - 2 / row.drawings**0.5, 0.0, 1.0, 100)
        estimate = measured._replace(low=measured.value - 0.01, high=measured.value + 0.01)
        scores = dict.fromkeys(METRICS, estimate)
        return replace(row_of(row.name, None, 0, 1), measured=estimate, scores=scores)

    monkeypatch.setattr(finish, "read_row", made_up)
    config = SweepConfig(table=table_file(folder, text), store=store.path, per_class=20,
                         run_dir=folder / "s", tracking_uri="none")  # fmt: skip
    finish_sweep(open_sweep(config), {})
    found: dict[str, Any] = json.loads((folder / "s" / "sweep.json").read_text())
    return found


def test_a_sweep_over_the_drawings_a_class_has_a_curve(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = table_of(*ROWS, more=LINE)
    (curve,) = finished(text, store, tmp_path, monkeypatch)["learning_curves"]
    drawings = [point["drawings_a_class"] for point in curve["points"]]
    assert drawings[:4] == [10, 15, 20, 25]
    assert drawings[4] > 25
    assert curve["fit"]["b"]["low"] < curve["fit"]["b"]["high"]
    numbers = [prediction["drawings_a_class"] for prediction in curve["predictions"]]
    assert numbers == [1_000, 4_000, 5_000, 100_000]
    markdown = (tmp_path / "s" / "table.md").read_text()
    assert "| 5,000 |" in markdown
    assert ", a guess | 0.500: 9 words |" in markdown
    assert f"The rows tell {curve['classes']} classes apart" in markdown
    assert "(figures/learning-curve.png)" in markdown
    assert (tmp_path / "s" / "figures" / "learning-curve.svg").is_file()


@pytest.mark.parametrize(
    "rows",
    [
        ["select.per_class = 10", "select.per_class = 20, seed = 1"],
        ["select.per_class = 10, select.recognized_only = true", "select.per_class = 20"],
        ["seed = 1", "seed = 2"],
        ["select.per_class = 10", "select.per_class = 10"],
    ],
    ids=["seed", "select", "other", "same"],
)
def test_a_sweep_over_other_options_has_none(
    rows: list[str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished(table_of(*rows), store, tmp_path, monkeypatch)["learning_curves"] == []
    assert not (tmp_path / "s" / "figures" / "learning-curve.png").exists()
    table = read_table(table_file(tmp_path, table_of(*rows, more=LINE)))
    with pytest.raises(ConfigError, match="published values are for a learning curve"):
        configs_of(table, {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value", "vale", "option 'published.0.value': Field required|unknown option"),
        ('"map_at_3"\nvalue', '"map3"\nvalue', "unknown metric; did you mean 'map_at_3'"),
        ("note", "highest = 0.4\nnote", "highest 0.4 is below value 0.5; swap them"),
    ],
)
def test_a_published_value_with_a_fault_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table(table_file(tmp_path, table_of(*ROWS, more=LINE.replace(old, new))))


def test_the_built_in_table_differs_in_drawings_alone() -> None:
    table = read_table("learning-curve")
    configs = configs_of(table, {"model": "sketch_fusion", "image": {"encoding": "order_points"}})
    numbers = [config.select.per_class for config in configs.values()]
    assert numbers == [10, 25, 50, 100, 300, None]
    assert {config.max_steps for config in configs.values()} == {1_500}
    assert {value.drawings_a_class for value in table.published} == {1_000, 4_000, 146_000}
