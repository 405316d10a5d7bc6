"""Ranking and recipes. Each table of modeling has a test module of its own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.modeling.ranking import average_precisions, hit_ranks, top_guesses
from quickdraw_core.recipes import RECIPES, find_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    assert find_recipe(name).model in MODELS


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
