"""A bundle on real drawings: the same guesses as torch, and nearly the same in 8 bits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import made_bundle, member_of
from render_reference import real_drawings

from quickdraw_core.bundling.graph import BundleMember, MeanOfMembers
from quickdraw_core.drawing import DrawingBatch, Float32Array
from quickdraw_core.labels import LabelMap, read_classes_file
from quickdraw_core.render.encodings import render
from quickdraw_core.serving.recognizer import (
    BundleRecognizer,
    _without_empty_rows,
    top_guesses,
)

DRAWINGS, TAUGHT = 1_000, 1_500


@pytest.fixture(scope="module")
def words(shared_data: Path) -> list[str]:
    return sorted(read_classes_file(shared_data / "rich_classes.txt"))


@pytest.fixture(scope="module")
def drawings(shared_data: Path, words: list[str]) -> DrawingBatch:
    """Real drawings of all words in turn."""
    each = -(-(DRAWINGS + TAUGHT) // len(words))
    by_word = real_drawings(shared_data, words, each)
    return by_word.take(np.arange(len(by_word)).reshape(len(words), each).T.ravel())


def teach(member: BundleMember, drawings: DrawingBatch, classes: int, epochs: int) -> None:
    """Trains a network on drawings of the classes in turn, from the first one."""
    pixels = _without_empty_rows(render(drawings, member.image), member.image)
    images = torch.from_numpy(pixels).float() / 255
    labels = torch.arange(len(drawings)) % classes
    network = member.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 0.003)
    torch.manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(drawings)).split(50):
            loss = torch.nn.functional.cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()


def guessed(scores: Float32Array, words: Sequence[str]) -> list[list[str]]:
    """The three words of each drawing."""
    found = top_guesses(scores, LabelMap.of(words))
    return [[guess.word for guess in guesses] for guesses in found]


def share_same(one: list[list[str]], other: list[list[str]]) -> float:
    return float(np.mean([mine == theirs for mine, theirs in zip(one, other, strict=True)]))


@pytest.mark.parametrize(
    ("name", "epochs", "least"),
    [
        ("net", 2, 0.15),
        pytest.param("small_cnn", 6, 0.5, marks=pytest.mark.soak),
        pytest.param("sketch_fusion", 6, 0.5, marks=pytest.mark.soak),
        # An epoch teaches it little, and takes a minute.
        pytest.param("stroke_transformer", 1, 0.0, marks=pytest.mark.soak),
    ],
)
def test_real_drawings_get_the_same_three_guesses_as_in_torch(
    name: str, epochs: int, least: float, drawings: DrawingBatch, words: list[str], tmp_path: Path
) -> None:
    """By a network that was trained on other real drawings."""
    member = member_of(name, len(words), side_px=32, flip_tta=True)
    others = np.arange(-(-DRAWINGS // len(words)) * len(words), len(drawings))
    teach(member, drawings.take(others), len(words), epochs)
    recognizer = BundleRecognizer(made_bundle(tmp_path / "bundle", [member], words))
    got, want = [], []
    network = MeanOfMembers([member]).eval()
    for first in range(0, DRAWINGS, 100):
        batch = drawings.take(np.arange(first, first + 100))
        got.append(recognizer.log_probabilities(batch))
        ((_, images),) = recognizer.images(batch)
        with torch.inference_mode():
            want.append(network(torch.from_numpy(images)).numpy())
    mine, theirs = np.concatenate(got), np.concatenate(want)
    assert len(mine) == DRAWINGS
    np.testing.assert_allclose(np.exp(mine), np.exp(theirs), atol=1e-4)
    assert share_same(guessed(mine, words), guessed(theirs, words)) >= 0.999
    right = np.argmax(theirs, axis=1) == np.arange(DRAWINGS) % len(words)
    assert right.mean() > least  # it has learnt, of 35 words
