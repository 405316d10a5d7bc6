"""Ranking, two looks, and recipes. Each table of modeling has a test module of its own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainings import image_of, network_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.modeling.ranking import average_precisions, hit_ranks, top_guesses
from quickdraw_core.recipes import RECIPES, find_recipe
from quickdraw_core.render.encodings import render
from quickdraw_core.render.placement import Points


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    assert find_recipe(name).model.name in MODELS


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        find_recipe("labtop")


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


READER = {"gray": "net", "points": "stroke_transformer", "order_points": "sketch_fusion"}


@pytest.mark.parametrize("encoding", READER)
def test_two_looks_make_a_drawing_and_its_mirror_image_the_same(encoding: str) -> None:
    strokes = [([0, 90, 200], [10, 250, 40]), ([30, 30], [5, 9])]
    mirrored = [([255 - x for x in xs], ys) for xs, ys in strokes]
    batch = DrawingBatch.from_strokes([strokes, mirrored])
    points = Points(batch.x.astype(np.float32), batch.y.astype(np.float32))
    images = torch.from_numpy(render(batch, image_of(encoding, 24), points)) / 255
    name = READER[encoding]
    torch.manual_seed(0)
    network = network_of(name, images.shape[1], 5, 24).eval()
    with torch.inference_mode():
        looks = network(images).softmax(1)
        both = FlipTTA(network, MODELS[name].reads)(images).softmax(1)
    torch.testing.assert_close(both[0], both[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(both[0], looks.mean(0), atol=1e-5, rtol=0)
    assert (looks[0] - looks[1]).abs().max() > 1e-4
