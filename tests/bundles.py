"""Small bundles of networks with random weights, for tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from quickdraw_core.bundling.graph import BundleMember
from quickdraw_core.bundling.write import BundleFacts, write_bundle
from quickdraw_core.labels import LabelMap
from quickdraw_core.modeling.models import ModelConfig, build_model
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.serving.bundle import Bundle, open_bundle

WORDS = ("envelope", "ice cream", "star", "sun")


def member_of(
    name: str = "net",
    classes: int = len(WORDS),
    side_px: int = 24,
    encoding: str | None = None,
    flip_tta: bool = False,
    seed: int = 1,
) -> BundleMember:
    """A network whose weights are drawn with a seed, in evaluation mode."""
    model = ModelConfig.parse({"name": name})
    usual = {"picture": "order", "points": "points", "picture and points": "order_points"}
    encoding = encoding or usual[model.reads]
    image = ImageConfig(encoding=encoding, side_px=side_px)
    torch.manual_seed(seed)
    network = build_model(model, image, classes).eval()
    return BundleMember(network, model, image, flip_tta, f"{seed:064x}")


def made_bundle(
    folder: Path,
    members: Sequence[BundleMember] | None = None,
    words: Sequence[str] = WORDS,
    graphs: dict[str, bytes] | None = None,
    **facts: Any,
) -> Bundle:
    """A bundle of `members`, by default of one small network. graphs: in place of theirs."""
    told = BundleFacts("small", LabelMap.of(words), "f" * 64, **facts)
    members = members or [member_of(classes=len(words))]
    write_bundle(folder, members, told, lambda info: info.name, graphs)
    return open_bundle(folder)
