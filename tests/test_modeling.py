import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.losses import LOSSES, build_loss
from quickdraw_core.modeling.models import MODELS, build_model
from quickdraw_core.modeling.optimizers import OPTIMIZERS, build_optimizer
from quickdraw_core.modeling.ranking import average_precisions, hit_ranks, top_guesses
from quickdraw_core.modeling.schedules import SCHEDULES, find_schedule
from quickdraw_core.recipes import RECIPES, find_recipe


@pytest.mark.parametrize(
    ("name", "channels", "side_px"), [*itertools.product(MODELS, (1, 3), (32, 96))]
)
def test_every_model_takes_any_channels_and_gives_logits(
    name: str, channels: int, side_px: int
) -> None:
    network = build_model(name, channels, 340, side_px).eval()
    with torch.inference_mode():
        logits = network(torch.rand(12, channels, side_px, side_px))
    assert logits.shape == (12, 340)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_every_loss_is_its_definition(name: str, label_smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 5
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    target = torch.nn.functional.one_hot(labels, 5) * (1 - label_smoothing) + label_smoothing / 5
    expected = {"cross_entropy": -(target * log_p).sum(1).mean()}[name]
    torch.testing.assert_close(build_loss(name, label_smoothing)(logits, labels), expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill_and_spares_biases_from_decay(name: str) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 2)
    optimizer = build_optimizer(name, layer.parameters(), 0.01, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert optimizer.param_groups[1]["params"] == [layer.bias]
    x = torch.randn(64, 4)
    losses = []
    for _ in range(30):
        loss = layer(x).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_within_the_learning_rate(name: str) -> None:
    factors = [find_schedule(name)(step, 1000) for step in range(1000)]
    assert min(factors) >= 0
    assert max(factors) == pytest.approx(1, abs=1e-6)


def test_multistep_halves_where_the_report_does() -> None:
    factor = find_schedule("multistep")
    steps = (0, 4_999, 5_000, 11_999, 12_000, 17_999, 18_000)
    assert [factor(step, 20_000) for step in steps] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    assert find_recipe(name).model in MODELS


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_model("resnet", 1, 2, 32),
        lambda: build_loss("crossentropy", 0),
        lambda: build_optimizer("adamx", [], 1, 0),
        lambda: find_schedule("one_cycle"),
        lambda: find_recipe("labtop"),
    ],
)
def test_an_unknown_row_names_the_nearest(build: object) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        build()  # type: ignore[operator]


def plain_map_at_3(scores: list[list[float]], labels: list[int]) -> float:
    """MAP@3 by its definition, ties broken by label."""
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        ranking = sorted(range(len(row)), key=lambda k: (-row[k], k))[:3]
        total += sum(1 / (place + 1) for place, guess in enumerate(ranking) if guess == label)
    return total / len(labels)


@given(st.integers(1, 6), st.integers(1, 8), st.data())
def test_map_at_3_is_its_definition_also_with_ties(
    classes: int, n: int, data: st.DataObject
) -> None:
    # Few different scores, so that ties are the rule.
    row = st.lists(st.integers(0, 3).map(float), min_size=classes, max_size=classes)
    scores = data.draw(st.lists(row, min_size=n, max_size=n))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    ranks = hit_ranks(top_guesses(torch.tensor(scores)), torch.tensor(labels))
    found = float(average_precisions(ranks).mean())
    assert found == pytest.approx(plain_map_at_3(scores, labels))
    assert np.isfinite(found)
