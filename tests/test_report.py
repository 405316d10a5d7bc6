"""The report: what it says, and how it stands in a real browser."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageStat
from playwright.sync_api import Browser

from quickdraw_core.diagnosis.curves import curve_of, ended_diverged, read_curves
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.evaluation.config import EvaluateConfig, evaluate_command
from quickdraw_core.formats.rows import UNKNOWN_RECOGNIZED
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.partial import Partial
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.labels import LabelMap
from quickdraw_core.metrics.by_strokes import StrokeJudgement, judge_by_strokes
from quickdraw_core.metrics.judgement import judge
from quickdraw_core.metrics.metrics import confused_pairs
from quickdraw_core.reporting.confusion_order import in_order, most_confused
from quickdraw_core.reporting.evaluation_figures import draw_figures, proportion_interval
from quickdraw_core.reporting.gallery import (
    confused_examples,
    most_confident_right,
    most_confident_wrong,
    round_robin,
    svg_path,
)
from quickdraw_core.reporting.guess_table import Guess
from quickdraw_core.reporting.pages import percent
from quickdraw_core.reporting.report import Report, write_report
from quickdraw_core.reporting.training_figures import thinned
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.journal import append, points_record

from browser import browser, opened, sideways, take_pictures  # isort: skip
from strategies import drawing  # isort: skip

ODD = '--><b class="odd">&$x$'
CLASSES, EACH = 45, 12
FIRST_TEXTS = "all => all.map(cell => cell.firstChild.data)"


def predictions_of(
    classes: int, each: int, wrong_share: float = 0.3, recognized: int | None = None
) -> Predictions:
    """Guesses of words 0, 1, 2 …, the wrong ones mostly the neighbour; the last word is odd."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    wrong = rng.random(len(labels)) < wrong_share
    shift = rng.integers(0, min(3, classes), len(labels)) * wrong
    guesses = (labels[:, None] + shift[:, None] + np.arange(min(3, classes))) % classes
    first = rng.uniform(0.4, 0.99, len(labels))
    rest = [first, (1 - first) * 0.7, (1 - first) * 0.2]
    ranks = np.where(shift == 0, 0, np.where(classes - shift < 3, classes - shift, classes - 1))
    known = rng.integers(0, 2, len(labels)) if recognized is None else recognized
    words = sorted([ODD, *(f"word {k:02}" for k in range(classes - 1))])
    return Predictions(
        LabelMap(tuple(words)),
        key_ids=np.arange(len(labels), dtype=np.uint64),
        labels=labels,
        recognized=np.broadcast_to(np.asarray(known, np.uint8), labels.shape),
        guesses=guesses,
        probabilities=np.stack(rest[: min(3, classes)], 1).astype(np.float32),
        ranks=ranks,
        label_log_probabilities=np.log(np.where(shift == 0, first, 0.01)).astype(np.float32),
    )


def judged_by_strokes(predictions: Predictions) -> StrokeJudgement:
    """Of drawings of 1 to 4 strokes, whose first strokes nobody recognises."""
    n = len(predictions)
    strokes = np.arange(n) % 4 + 1
    of, before = np.nonzero(np.arange(1, 4) < strokes[:, None])
    unknown = HeldOut(cast(Pack, None), of, {}, before + 1)
    found = predictions.where(of)
    missed = Predictions(**{**vars(found), "ranks": np.full(len(of), 3)})
    return judge_by_strokes(
        predictions, Partial(np.arange(n), strokes, of, unknown), missed, 0, 50
    )


def report_of(predictions: Predictions, run_dir: Path | None = None) -> Report:
    """With the drawings in the opposite order, as a pack may have them in any."""
    n, words = len(predictions), predictions.label_map.words
    rows = np.arange(n)[::-1].copy()
    one = [([0, 200, 100], [0, 10, 180]), ([50], [50])]
    chosen = range(0, n, max(1, n // 20))
    return Report(
        model=f"a model of {ODD}",
        facts={"store_fingerprint": "f" * 64, "odd": ODD},
        judgement=judge(predictions, resamples=50),
        predictions=predictions,
        rows=rows,
        drawings=DrawingBatch.from_strokes([one] * n),
        guesses=[
            Guess(
                int(rows[i]),
                tuple(words[g] for g in predictions.guesses[i]),
                words[predictions.labels[i]],
            )
            for i in chosen
        ],
        per_class=EACH,
        curves=read_curves(run_dir) if run_dir is not None else {},
        classes_trained=len(words),
        has_diverged=run_dir is not None and ended_diverged(run_dir),
        command="quickdraw evaluate 'a run'",
        by_strokes=judged_by_strokes(predictions) if run_dir is not None else None,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all parts, its figures beside it. Not to be changed."""
    folder = tmp_path_factory.mktemp("report")
    for step in range(1, 400):
        values = {"train/loss": 4 / step + 0.4, "train/learning_rate": 0.1 / step}
        if step % 50 == 0:
            values |= {"validation/loss": 4 / step + 0.5, "validation/map_at_3": 1 - 9 / step}
        append(folder, points_record(step, values))
    write_report(report_of(predictions_of(CLASSES, EACH), folder), folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


def test_the_page_asks_for_nothing_and_has_all_its_parts(page: Path, chromium: Browser) -> None:
    with opened(chromium, page) as seen:
        found = seen.page
        assert seen.requests == [page.as_uri()]
        assert seen.problems == []
        assert re.search(
            r"0\.\d{3}\s*MAP@3, 95 % interval 0\.\d{3} to 0\.\d{3}",
            found.locator(".headline").inner_text(),
        )
        for part in found.locator("nav a").all():
            assert found.locator(str(part.get_attribute("href"))).is_visible()
        assert found.locator("nav a").count() == 9
        drawn = found.locator("#gallery .card svg path").first.bounding_box()
        assert drawn is not None
        assert min(drawn["width"], drawn["height"]) > 40
        for chart in found.locator(".chart svg").all():
            box = chart.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 150
        assert found.locator(".chart").count() == 7
        assert "Half of the drawings have the right word" in found.locator("#strokes").inner_text()
        assert found.locator(".strokes tbody tr").count() == 16
        assert "quickdraw evaluate 'a run'" in found.locator("#judged").inner_text()
        assert found.locator("text=Guess failed!").count() > 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone_in_either_scheme(
    page: Path, chromium: Browser, scheme: Any
) -> None:
    window = {"width": 360, "height": 740}
    with opened(chromium, page, viewport=window, color_scheme=scheme) as seen:
        assert sideways(seen.page) == 0
        seen.page.get_by_role("button", name="Show all").click()
        assert sideways(seen.page) == 0
        align = "cell => getComputedStyle(cell).textAlign"
        assert seen.page.locator(".classes td.number").first.evaluate(align) == "right"
        assert seen.page.locator(".numbers td.number").first.evaluate(align) == "left"
        colours = seen.page.evaluate(
            """() => {
              const style = getComputedStyle(document.documentElement);
              const names = ["ink", "muted", "blue", "red", "page", "paper"];
              return Object.fromEntries(names.map((n) => [n, style.getPropertyValue("--" + n)]));
            }"""
        )
        # 4.5 to 1 is what WCAG 2.2 asks of text.
        for name in ("ink", "muted", "blue", "red"):
            assert contrast(colours[name], colours["page"]) > 4.5
            assert contrast(colours[name], colours["paper"]) > 4.5
        is_dark = luminance(colours["page"]) < 0.1
        assert is_dark == (scheme == "dark")


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it, of a colour such as #fff or #1d2327."""
    digits = colour.strip().removeprefix("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_table_of_classes_is_sorted_and_filtered(page: Path, chromium: Browser) -> None:
    with opened(chromium, page) as seen:
        rows = seen.page.locator(".classes tbody tr")
        shown = rows.filter(visible=True)
        assert (rows.count(), shown.count()) == (CLASSES, 40)
        scores = [float(v) for v in shown.locator("td:nth-child(2)").all_inner_texts()]
        assert scores == sorted(scores)

        seen.page.get_by_label("Find a class").fill("WORD 07")
        assert "word 07" in shown.locator("th").evaluate_all(FIRST_TEXTS)
        assert all("word 07" in text for text in shown.all_inner_texts())
        assert 0 < shown.count() < CLASSES
        seen.page.get_by_label("Find a class").fill("")

        seen.page.get_by_role("button", name="Show all").click()
        assert shown.count() == CLASSES
        head = seen.page.locator(".classes thead th").first
        for order in ("ascending", "descending"):
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == order
            words = rows.locator("th").evaluate_all(FIRST_TEXTS)
            assert words == sorted(words, reverse=order == "descending", key=str.lower)


def test_without_scripts_and_on_paper_all_classes_are_there(page: Path, chromium: Browser) -> None:
    with opened(chromium, page, java_script_enabled=False) as seen:
        assert seen.page.locator(".classes tbody tr").filter(visible=True).count() == CLASSES
        assert not seen.page.get_by_label("Find a class").is_visible()
    with opened(chromium, page, color_scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.locator(".classes tbody tr").filter(visible=True).count() == CLASSES
        assert not seen.page.locator("nav").is_visible()
        colour = seen.page.evaluate("getComputedStyle(document.body).color")
        assert max(map(int, re.findall(r"\d+", colour))) < 80, "dark letters, for white paper"
        assert seen.page.pdf(format="A4").startswith(b"%PDF")


def test_odd_words_are_words(page: Path, chromium: Browser) -> None:
    with opened(chromium, page) as seen:
        assert seen.page.locator(".odd").count() == 0
        assert seen.page.locator("h1").inner_text() == f"a model of {ODD}"
        assert seen.page.locator(".chart text", has_text=ODD).count() > 0
        words = seen.page.locator(".classes tbody th").evaluate_all(FIRST_TEXTS)
        assert words.count(ODD) == 1


def test_those_who_see_no_pictures_are_told(page: Path, chromium: Browser) -> None:
    with opened(chromium, page) as seen:
        unnamed = "all => all.filter(e => !(e.ariaLabel || '').trim()).length"
        assert seen.page.locator("[role=img]").evaluate_all(unnamed) == 0
        stray = "all => all.filter(e => !e.closest('[role=img]')).length"
        assert seen.page.locator("svg").evaluate_all(stray) == 0
        assert seen.page.locator("th:not([scope])").count() == 0
        ids = seen.page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
        assert len(ids) == len(set(ids))


def test_the_pictures_of_the_documentation_can_be_taken(
    page: Path, chromium: Browser, tmp_path: Path
) -> None:
    pictures = take_pictures(chromium, page, tmp_path)
    assert {"report.png", "report-phone.png", "report-gallery.png"} <= {p.name for p in pictures}
    assert all(2_000 < path.stat().st_size < 300_000 for path in pictures)


def test_figures_are_pictures(page: Path) -> None:
    figures = sorted((page.parent / "figures").glob("*.png"))
    names = "calibration classes classes_named confusion learning_rate loss map_at_3 strokes"
    assert [path.stem for path in figures] == names.split()
    for path in figures:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert all(300 < side < 3000 for side in image.size)
            assert max(ImageStat.Stat(image.convert("L")).stddev) > 5, f"{path.name} is empty"
    assert page.stat().st_size < 1_000_000


def text_of(report: Report, folder: Path) -> str:
    write_report(report, folder)
    return re.sub(r"\s+", " ", (folder / "report.html").read_text())


def test_a_report_of_a_single_class(tmp_path: Path) -> None:
    text = text_of(report_of(predictions_of(1, 3, 0.0)), tmp_path)
    assert "3 held-out drawings of 1 class. " in text
    assert 'id="confusion"' not in text
    assert 'id="strokes"' not in text
    assert "No first guess was wrong." in text


def test_a_report_without_curves_where_nothing_was_right_or_known(tmp_path: Path) -> None:
    predictions = predictions_of(5, EACH, 0.0, UNKNOWN_RECOGNIZED)
    wrong = predictions.guesses[:, [1, 2, 0]]
    predictions = Predictions(
        **{**vars(predictions), "guesses": wrong, "ranks": np.full(len(wrong), 2)}
    )
    text = text_of(report_of(predictions), tmp_path)
    assert 'id="training"' not in text
    assert "recognised the drawings is not known" in text
    assert "Right and most confident" not in text
    assert "Most often taken for each other" in text


def test_a_report_says_which_classes_have_few_drawings_or_none(tmp_path: Path) -> None:
    predictions = predictions_of(5, EACH)
    kept = (predictions.labels != 3) & ~((predictions.labels == 1) & (np.arange(5 * EACH) % 3 > 0))
    text = text_of(report_of(predictions.where(kept)), tmp_path)
    assert "1 of 4 classes was judged on fewer than 12 drawings" in text
    assert "No drawings to judge: word 02." in text
    assert "A hollow dot" in text


def test_the_diagnosis_stands_beneath_the_curves(tmp_path: Path) -> None:
    for step in range(10, 300, 10):
        values = {"train/loss": -0.2 - step / 500, "train/learning_rate": 0.1}
        values |= {"validation/loss": -0.3 - step / 500, "validation/map_at_3": 0.5}
        append(tmp_path, points_record(step, values))
    text = text_of(report_of(predictions_of(5, EACH), tmp_path), tmp_path)
    assert "What the curves say" in text
    assert "Log forgotten before" in text


def test_figures_of_curves_that_hold_no_number() -> None:
    curves = {"train/loss": curve_of([(1, 2.0), (2, float("inf")), (3, float("nan"))])}
    figures = draw_figures(judge(predictions_of(2, 2), resamples=20), curves)
    assert "nan" in figures["loss"].alt
    assert "learning_rate" not in figures


def test_the_command_that_makes_it_again() -> None:
    plain = EvaluateConfig.parse({"model": "runs/a b", "store": "store"})
    assert evaluate_command(plain, plain.models) == (
        "quickdraw evaluate 'runs/a b' --store store --per-class 100"
    )
    values = {
        "model": "a",
        "ensemble": ("b",),
        "tta": "flip",
        "precision": "bf16",
        "average": 2,
        "seed": 3,
        "guesses": 8,
        "partial_per_class": 0,
    }
    more = EvaluateConfig.parse(values | {"store": "s", "allow_short": True})
    assert evaluate_command(more, ("models:/a/1", "b")) == (
        "quickdraw evaluate models:/a/1 b --store s --per-class 100 --tta flip "
        "--precision bf16 --average 2 --allow-short --set seed=3 --set guesses=8 "
        "--set partial_per_class=0"
    )


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (0.001, "< 1 %"), (0.5, "50 %"), (0.999, "> 99 %"), (1, "100 %")],
)
def test_shares_are_rounded_but_not_to_nothing_or_all(share: float, shown: str) -> None:
    assert percent(share) == shown.replace(" ", "\N{NO-BREAK SPACE}")


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 12))
def test_a_gallery_shows_many_classes(labels: list[int], at_most: int) -> None:
    places = round_robin(np.array(labels, np.int64), at_most)
    assert len(places) == min(at_most, len(labels))
    assert sorted(set(places.tolist())) == places.tolist()
    shown = [labels[place] for place in places]
    for label in set(labels):
        # The first of a class are shown, and no class is passed over where another has two more.
        mine = [place for place, found in enumerate(labels) if found == label]
        count = shown.count(label)
        assert [p for p in places.tolist() if labels[p] == label] == mine[:count]
        assert count == len(mine) or all(shown.count(other) <= count + 1 for other in set(labels))


@given(st.integers(2, 6), st.integers(1, 8), st.floats(0, 1))
@settings(max_examples=30)
def test_a_gallery_is_of_the_most_confident(classes: int, each: int, wrong_share: float) -> None:
    found = predictions_of(classes, each, wrong_share)
    right = found.ranks == 0
    for indices, among in (
        (most_confident_right(found), right),
        (most_confident_wrong(found), ~right),
    ):
        assert among[indices].all()
        assert len(indices) == min(12, among.sum())
        confidences = found.confidences[indices]
        assert (np.diff(confidences) <= 0).all()
        if len(indices):
            assert confidences[0] == found.confidences[among].max()
    mistaken = confused_examples(found, 0, 1 % classes, 3)
    assert (found.labels[mistaken] == 0).all()
    assert (found.guesses[mistaken, 0] == 1 % classes).all()


counts = st.integers(2, 9).flatmap(
    lambda k: hnp.arrays(np.int64, (k, k), elements=st.integers(0, 5))
)


@given(counts, st.integers(2, 9))
def test_the_confused_are_shown_and_stand_together(counts: Any, at_most: int) -> None:
    chosen = most_confused(counts, at_most)
    assert len(set(chosen)) == len(chosen) <= at_most
    ordered = in_order(counts, chosen)
    assert sorted(ordered) == sorted(chosen)
    pairs = confused_pairs(counts, counts.size)
    if not pairs:
        assert chosen == []
        return
    first, second = ordered.index(pairs[0].first), ordered.index(pairs[0].second)
    assert abs(first - second) == 1


def test_a_chain_of_confusions_becomes_a_diagonal() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        hidden = rng.permutation(12)
        counts = np.diag(np.full(12, 50))
        for place, (a, b) in enumerate(pairwise(hidden)):
            counts[a, b] = 5 + place
        ordered = in_order(counts, most_confused(counts, 12))
        assert ordered in (hidden.tolist(), hidden[::-1].tolist())


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50), st.integers(1, 60))
def test_a_thinned_curve_stays_within_the_curve(values: list[float], at_most: int) -> None:
    x, y = thinned(curve_of(enumerate(values, 1)), at_most)
    assert len(x) == len(y) == min(at_most, len(values))
    assert (np.diff(x) > 0).all()
    assert min(values) - 1e-9 <= y.min() <= y.max() <= max(values) + 1e-9
    if at_most >= len(values):
        assert y.tolist() == values


@given(st.integers(1, 1000), st.floats(0, 1))
def test_the_interval_of_a_share_holds_it(n: int, part: float) -> None:
    share = round(part * n) / n
    low, high = proportion_interval(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Of 8 in 10, as worked out by hand from his formula with z = 1.96."""
    assert proportion_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(drawing)
def test_a_drawing_becomes_a_path_within_its_square(strokes: Any) -> None:
    path = svg_path(strokes)
    numbers = [float(v) for v in re.findall(r"-?[\d.]+", path)]
    assert path.count("M") == len(strokes)
    points = sum(max(2, len(xs)) for xs, _ in strokes)
    assert len(numbers) == 2 * points
    for axis in (numbers[::2], numbers[1::2]):
        assert -0.5 <= min(axis) <= max(axis) <= 255.5
        assert min(axis) + max(axis) == pytest.approx(255)
