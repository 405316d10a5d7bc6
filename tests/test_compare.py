"""Which of two models is better: the arithmetic, on simulated predictions whose truth is known."""

import html
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import sure_predictions

from quickdraw_core.errors import InputError
from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.labels import LabelMap
from quickdraw_core.metrics.comparison_text import (
    class_table,
    comparison_markdown,
    difference_table,
    digits_of,
    sentence,
    sentences,
)
from quickdraw_core.metrics.differences import (
    Candidate,
    Comparison,
    compare,
)
from quickdraw_core.metrics.metrics import METRICS, chance_map_at_3
from quickdraw_core.metrics.significance import discoveries, sign_flip_p
from quickdraw_core.promotion.decision import Decision, decide
from quickdraw_core.reporting.comparison_page import WhyText, comparison_page

Rng = np.random.Generator


def predictions_of(ranks: np.ndarray, classes: int, rng: Rng) -> Predictions:
    """Predictions with these ranks, from 0, of as many drawings of each class."""
    n = len(ranks)
    labels = np.repeat(np.arange(classes), n // classes)
    others = (labels[:, None] + np.arange(1, 4)) % classes
    places = np.arange(3)[None]
    guesses = np.where(places == ranks[:, None], labels[:, None], others)
    probabilities = -np.sort(-rng.dirichlet([1.0] * 4, n)[:, :3]).astype(np.float32)
    return Predictions(
        LabelMap.of([f"word {label:03}" for label in range(classes)]),
        np.arange(n, dtype=np.uint64),
        labels,
        np.ones(n, np.uint8),
        guesses,
        probabilities,
        ranks,
        np.log(rng.uniform(0.1, 1, n)).astype(np.float32),
    )


def pair(seed: int, better: float, classes: int = 10, per_class: int = 30) -> list[Candidate]:
    """A and B, alike on most drawings; B is right on a share `better` of those A misses."""
    rng = np.random.default_rng(seed)
    n = classes * per_class
    a = np.where(rng.random(n) < 0.6, 0, rng.integers(1, 6, n))
    b = np.where(rng.random(n) < 0.2, rng.permutation(a), a)
    b = np.where((b > 0) & (rng.random(n) < better), 0, b)
    return [
        Candidate("A", predictions_of(a, classes, rng)),
        Candidate("B", predictions_of(b, classes, rng)),
    ]


@given(seed=st.integers(0, 2**32), better=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_other_way_round_everything_changes_its_sign(seed: int, better: float) -> None:
    a, b = pair(seed, better, classes=4, per_class=12)
    there, back = compare(a, b, seed, 200), compare(b, a, seed, 200)
    for name, found in there.differences.items():
        other = back.differences[name]
        assert found.estimate.value == pytest.approx(-other.estimate.value, abs=1e-9)
        assert found.estimate.low == pytest.approx(-other.estimate.high, abs=1e-9)
        assert (found.first, found.significant) == (other.second, other.significant)
        assert found.drawings_needed == pytest.approx(other.drawings_needed, abs=1)
    assert [row.p_value for row in there.classes] == [row.p_value for row in back.classes]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_model_is_no_better_than_itself_in_anything(seed: int) -> None:
    a, _ = pair(seed, 0.3, per_class=17)
    itself = compare(a, Candidate("B", a.predictions), seed, 200)
    assert set(METRICS) == set(itself.differences)
    for found in itself.differences.values():
        assert found.estimate[:3] == (0, 0, 0)
        assert not found.significant
        assert found.drawings_needed is None
    assert not itself.changed
    assert itself.excluding_0 == 0
    assert sentence(itself) == (
        "no significant difference between B and A in MAP@3: 0.0000 ± 0.0000 on 170 drawings"
    )


def test_the_values_are_those_of_the_models_and_their_difference() -> None:
    ranks = np.array([0, 1, 2, 3] * 3)
    rng = np.random.default_rng(0)
    a = Candidate("A", predictions_of(ranks, 4, rng))
    b = Candidate("B", predictions_of(np.zeros(12, int), 4, rng))
    found = compare(a, b).differences
    assert found["map_at_3"].first == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert found["map_at_3"].second == 1
    assert found["mean_rank"].estimate.value == pytest.approx(1 - 2.5)
    assert found["mean_rank"].gain == pytest.approx(1.5)
    assert found["map_at_3"].significant
    assert found["map_at_3"].gain > 0


def test_the_interval_holds_the_true_difference_in_nineteen_of_twenty_repetitions() -> None:
    better, repetitions, drawings = 0.1, 200, 120
    # A misses 0.4 of the drawings; what B then gains on one is 1 less what A had.
    rng = np.random.default_rng(1)
    covered, values = 0, []
    for _ in range(repetitions):
        a = np.where(rng.random(drawings) < 0.6, 0, rng.integers(1, 6, drawings))
        b = np.where((a > 0) & (rng.random(drawings) < better), 0, a)
        both = [Candidate(x, predictions_of(r, 4, rng)) for x, r in (("A", a), ("B", b))]
        found = compare(*both, seed=int(rng.integers(2**32)), resamples=300)
        estimate = found.differences["map_at_3"].estimate
        truth = 0.4 * better * (1 - (1 / 2 + 1 / 3) / 5)
        covered += estimate.low <= truth <= estimate.high
        values.append(estimate.value)
    # Of a mean of 200, whose own scatter is 0.0011.
    assert np.mean(values) == pytest.approx(truth, abs=0.0036)
    # A binomial of 200 at 0.95 is within these bounds in all but 1 of 10,000 cases; the
    # percentile interval of few, skewed differences covers a little less than it says.
    assert 0.88 <= covered / repetitions <= 0.995


def test_of_two_calibrated_models_none_is_said_to_be_better_calibrated() -> None:
    """One that is sure and one that is not: noise adds more to the error of the latter."""
    rng, told, repetitions = np.random.default_rng(5), [0, 0], 40
    labels = np.repeat(np.arange(5), 240)
    for repetition in range(repetitions):
        chances = rng.beta(12, 1, len(labels)), rng.beta(3, 2, len(labels))
        both = [sure_predictions(labels, p, rng.random(len(labels)) < p) for p in chances]
        wrong = sure_predictions(labels, np.sqrt(chances[1]), both[1].ranks == 0)
        for place, other in enumerate((both[1], wrong)):
            found = compare(Candidate("A", both[0]), Candidate("B", other), repetition, 200)
            told[place] += found.differences["expected_calibration_error"].significant
    assert told[0] <= 0.15 * repetitions
    assert told[1] == repetitions


@pytest.mark.parametrize(("gains", "is_told"), [(4, False), (5, False), (6, True)])
def test_a_handful_of_drawings_tells_no_more_than_as_many_coins(gains: int, is_told: bool) -> None:
    rng = np.random.default_rng(6)
    a = np.zeros(1_000, np.int64)
    a[:20] = 1
    b = a.copy()
    b[:gains] = 0
    found = compare(
        Candidate("A", predictions_of(a, 10, rng)),
        Candidate("B", predictions_of(b, 10, rng)),
    )
    difference = found.differences["map_at_3"]
    assert difference.p_value == pytest.approx(2 * 0.5**gains)
    assert difference.significant == is_told
    assert (decide(found, 0.0, "champion")[0] == Decision.PROMOTED) == is_told


def test_pairing_tells_what_two_separate_intervals_would_not() -> None:
    a, b = pair(3, 0.2)
    found = compare(a, b).differences["map_at_3"]
    assert found.significant
    from quickdraw_core.metrics.judgement import judge

    alone = [judge(named.predictions).scores["map_at_3"] for named in (a, b)]
    assert alone[0].high > alone[1].low


def test_as_many_drawings_as_are_said_to_tell_a_difference_do_tell_it() -> None:
    a, b = pair(5, 0.02)
    found = compare(a, b)
    needed = found.differences["map_at_3"].drawings_needed
    assert needed is not None
    assert needed > found.n
    assert any("drawings are needed" in line for line in sentences(found))
    # Of the size found in these drawings, on so many drawn from them:
    rng, told = np.random.default_rng(0), 0
    gains = (1 / (b.predictions.ranks + 1) * (b.predictions.ranks < 3)) - (
        1 / (a.predictions.ranks + 1) * (a.predictions.ranks < 3)
    )
    for _ in range(300):
        drawn = rng.choice(gains, needed)
        told += abs(drawn.mean()) > 1.96 * drawn.std() / np.sqrt(needed)
    assert 0.88 <= told / 300 <= 0.995


@given(st.lists(st.integers(-6, 6), max_size=10))
def test_the_chance_of_a_change_is_that_of_all_ways_to_give_it_signs(gains: list[int]) -> None:
    differences = np.array(gains, np.int64)
    ways = [
        abs(sum(s * g for s, g in zip(signs, gains, strict=True))) >= abs(sum(gains))
        for signs in itertools.product((1, -1), repeat=len(gains))
    ]
    assert sign_flip_p(differences) == pytest.approx(np.mean(ways))


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 0.5))
def test_what_is_believed_is_what_the_rule_of_the_paper_says(
    chances: list[float], share: float
) -> None:
    values = np.array(chances)
    believed = discoveries(values, share)
    k = max(
        (
            k
            for k in range(1, len(values) + 1)
            if np.sort(values)[k - 1] <= share * k / len(values)
        ),
        default=0,
    )
    assert believed.sum() == sum(values <= np.sort(values)[k - 1]) if k else not believed.any()
    if believed.any():
        assert values[believed].max() <= values[~believed].min(initial=1.0)


def test_words_of_models_that_are_alike_are_not_said_to_have_changed() -> None:
    wrongly, seeming = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ranks = [np.where(rng.random(1_500) < 0.6, 0, rng.integers(1, 6, 1_500)) for _ in "AB"]
        both = [Candidate(x, predictions_of(r, 50, rng)) for x, r in zip("AB", ranks, strict=True)]
        found = compare(*both, seed=seed, resamples=200)
        wrongly += bool(found.changed)
        seeming += found.excluding_0
    assert wrongly <= 4  # 20 · 0.05 are expected at most
    assert seeming > 20  # the intervals of single words would have it otherwise


def test_words_that_did_change_are_found_and_named_in_order() -> None:
    rng = np.random.default_rng(1)
    a = np.where(rng.random(2_000) < 0.6, 0, rng.integers(1, 6, 2_000))
    b = a.copy()
    b[:100] = 0
    b[100:200] = 4
    found = compare(
        Candidate("A", predictions_of(a, 20, rng)),
        Candidate("B", predictions_of(b, 20, rng)),
    )
    assert [row.word for row in found.changed] == ["word 000", "word 001"]
    heads, rows = class_table(found, 1)
    assert heads[1:3] == ["A", "B"]
    assert rows[0][0] == "word 001"  # the greater change
    assert rows[1][0] == "… 1 more"
    page = comparison_markdown([found], [["a figure.png"]])
    assert "word 000" in page
    assert "![a figure](a figure.png)" in page


def test_better_means_lower_where_lower_is_better() -> None:
    found = compare(*pair(3, 0.5))
    assert sentence(found).startswith("B is better than A by 0.")
    assert sentence(found, "mean_rank").endswith("in mean rank (lower is better)")
    assert "B is better than A by" in sentence(found, "mean_rank")
    back = compare(*pair(3, 0.5)[::-1])
    assert sentence(back, "mean_rank").startswith("A is worse than B by")
    verdicts = {row[0]: row[-1] for row in difference_table(found)[1]}
    assert verdicts["MAP@3"] == "better"
    assert verdicts["mean rank"] == "better"


def test_numbers_are_shown_with_the_digits_that_their_uncertainty_leaves() -> None:
    assert [digits_of(h) for h in (0.5, 0.031, 0.0041, 0.00098, 0.0)] == [2, 3, 4, 5, 4]


def test_other_drawings_cannot_be_compared() -> None:
    a, b = pair(1, 0.1)
    shorter = Candidate("B", b.predictions.where(np.arange(len(b.predictions) - 1)))
    with pytest.raises(InputError, match="A and B were judged on different drawings"):
        compare(a, shorter)
    with pytest.raises(InputError, match="judge both on the same store"):
        compare(a, Candidate("B", b.predictions.where(np.arange(len(b.predictions))[::-1])))


def test_chance_is_what_the_most_common_words_would_get() -> None:
    rng = np.random.default_rng(0)
    even = predictions_of(np.zeros(40, int), 4, rng)
    assert chance_map_at_3(even) == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert chance_map_at_3(even.where(even.labels == 2)) == 1


def test_a_comparison_in_json_has_every_number() -> None:
    found: Comparison = compare(*pair(1, 0.4))
    value = found.to_json()
    assert set(value["differences"]) == set(found.differences)
    score = value["differences"]["map_at_3"]
    assert score["second_is_better"] is True
    assert score["low"] <= score["value"] <= score["high"]
    assert len(value["classes"]) == len(found.classes) == 10


def test_the_page_says_what_the_sentences_say_and_loads_nothing() -> None:
    a, b = pair(3, 0.9, classes=12, per_class=60)
    itself = compare(a, Candidate("<b>", a.predictions), resamples=200)
    found = [compare(a, b, resamples=200), itself]
    differs = [["options", "seed", "0", "1"], ["", "name", "<i>", "none"]]
    whys = [WhyText(["nothing differs but the seed", "not recorded for A: data"], differs),
            WhyText(["nothing differs"])]  # fmt: skip
    page = comparison_page(found, whys, {"store": "here & there"})
    for comparison in found:
        for line in (sentence(comparison), *sentences(comparison)):
            assert html.escape(line)[1:] in page
    for row in found[0].classes:
        assert f'<th scope="row">{row.word}</th>' in page
    assert found[0].changed
    assert page.count('class="zero better"') >= len(found[0].changed)
    for cell in ("Nothing differs but the seed", "Not recorded for A: data", "&lt;i&gt;"):
        assert cell in page
    assert "2 models against A" in page
    assert "<b>" not in page.replace("<b style", "")
    assert "here &amp; there" in page
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)|url\(|@import|http", page)
    assert "Why they differ" not in comparison_page(found, [], {})


@pytest.mark.parametrize("better", [0.0, 0.5])
def test_bars_of_the_page_lie_within_their_lines_and_better_is_to_the_right(better: float) -> None:
    a, b = pair(2, better, classes=6, per_class=40)
    comparison = compare(a, b, resamples=200)
    page = comparison_page([comparison], [], {})
    bars = re.findall(r'<div class="zero (\w*)".*?<b style="left:([\d.-]+)%', page)
    assert len(bars) == len(METRICS) + len(comparison.changed)
    assert all(0 <= float(at) <= 100 for _, at in bars)
    for (verdict, at), name in zip(bars, METRICS, strict=False):
        difference = comparison.differences[name]
        assert float(at) == pytest.approx(50) or (float(at) > 50) == (difference.gain > 0)
        assert bool(verdict) == difference.significant
    assert any(verdict for verdict, _ in bars) or not better
