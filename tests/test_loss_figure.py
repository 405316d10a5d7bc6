"""The figure of loss against margin, and the curves in it."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.losses import LOSSES
from quickdraw_core.reporting.loss_figure import draw_loss_figure, loss_curves, zero_one_loss

AT = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])
FORMULAS = {
    "hinge": np.maximum(0, 1 - AT),
    "logistic": np.log1p(np.exp(-AT)),
    "cross_entropy": np.log1p(np.exp(-AT)),
    "nll": np.log1p(np.exp(-AT)),
    "balanced_softmax": np.log1p(np.exp(-AT)),  # of two classes that are alike
    "exponential": np.exp(-AT),
    "softmax_reciprocal": 1 + np.exp(-AT),
    "mse": (1 - AT) ** 2 / 2,
    "l1": 2 / (1 + np.exp(AT)),
    "nll_without_log": -1 / (1 + np.exp(-AT)),
}


def test_every_loss_has_its_curve_of_two_classes() -> None:
    curves = loss_curves(AT)
    found = {name: curve.values for curve in curves for name in curve.names}
    assert found.keys() == LOSSES.keys() == FORMULAS.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, FORMULAS[name], err_msg=name)
    twins = ("cross_entropy", "balanced_softmax", "nll", "logistic")
    assert twins in [curve.names for curve in curves]
    heights = [curve.values[0] for curve in curves]
    assert heights == sorted(heights, reverse=True)


def test_the_zero_one_loss_counts_mistakes_and_draws() -> None:
    assert zero_one_loss(AT).tolist() == [1, 1, 1, 0, 0]


def test_the_figure_is_a_png_of_some_size(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "losses.png"
    draw_loss_figure(path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1350, 810)


def test_the_svg_names_every_loss_and_is_the_same_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.svg", "b.SVG")]
    for path in paths:
        draw_loss_figure(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    text = " ".join(ElementTree.parse(paths[0]).getroot().itertext())
    for name in (*LOSSES, "0-1 loss", "margin"):
        assert name in text


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"drawn as .png or .svg, found 'losses.pdf'"):
        draw_loss_figure(tmp_path / "losses.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file"):
        draw_loss_figure(tmp_path / "file" / "losses.png")
