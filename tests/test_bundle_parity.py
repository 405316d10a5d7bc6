"""A bundle on real drawings: the same guesses as torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import made_bundle, member_of
from render_reference import real_drawings

from quickdraw_core.bundling.graph import MeanOfMembers
from quickdraw_core.labels import LabelMap, read_classes_file
from quickdraw_core.modeling.layers import last_linear
from quickdraw_core.serving.recognizer import BundleRecognizer, top_guesses

DRAWINGS = 1_000


@pytest.mark.parametrize(
    "name", ["small_cnn", pytest.param("stroke_transformer", marks=pytest.mark.soak)]
)
def test_real_drawings_get_the_same_three_guesses_as_in_torch(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    words = sorted(read_classes_file(shared_data / "rich_classes.txt"))
    drawings = real_drawings(shared_data, words, -(-DRAWINGS // len(words)))
    member = member_of(name, len(words), side_px=32, flip_tta=True)
    with torch.no_grad():  # as sure of its guesses as a trained one
        last_linear(member.network)[1].weight.mul_(30)
    recognizer = BundleRecognizer(made_bundle(tmp_path / "bundle", [member], words))
    same, network = [], MeanOfMembers([member]).eval()
    for first in range(0, DRAWINGS, 100):
        batch = drawings.take(np.arange(first, first + 100))
        got = recognizer.log_probabilities(batch)
        ((_, images),) = recognizer.images(batch)
        with torch.inference_mode():
            want = network(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(np.exp(got), np.exp(want), atol=1e-4)
        same += [
            [guess.word for guess in mine] == [guess.word for guess in theirs]
            for mine, theirs in zip(
                top_guesses(got, LabelMap.of(words)),
                top_guesses(want, LabelMap.of(words)),
                strict=True,
            )
        ]
    assert len(same) == DRAWINGS
    assert np.mean(same) >= 0.999
