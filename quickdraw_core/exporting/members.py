"""Trained models → what a bundle is made of."""

from pathlib import Path

from quickdraw_core.bundling.graph import BundleMember
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import Tta
from quickdraw_core.modeling.flip_tta import FlipTTA
from quickdraw_core.tracking.registry import SCHEME, is_registered
from quickdraw_core.training.network import network_of


def bundle_members(models: Ensemble) -> list[BundleMember]:
    """Each model's network on the CPU. Raises `CheckpointError` if weights do not fit."""
    return [_member(model) for model in models.members]


def _member(model: TrainedModel) -> BundleMember:
    network, config = network_of(model.checkpoint)
    flips = config.model.flip_tta or model.tta == Tta.FLIP
    if isinstance(network, FlipTTA):
        network = network.network
    sha256 = model.checkpoint.weights_sha256
    tau = model.checkpoint.logit_adjustment
    return BundleMember(network, config.model, model.image, flips, sha256, tau)


def name_of(models: Ensemble) -> str:
    """A name for people: `laptop`, `quickdraw@3`, `laptop + gray`."""
    return " + ".join(map(_name_of, models.members))


def _name_of(model: TrainedModel) -> str:
    if is_registered(model.reference):
        return model.reference.removeprefix(SCHEME).replace("/", "@")
    name = Path(model.name).stem if model.path is not None else model.name
    variant = model.variant
    return f"{name} ({variant})" if variant else name
