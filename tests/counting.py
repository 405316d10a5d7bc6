"""Counts what is opened: each of these takes long, and a call has no use for a second time."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from quickdraw_core.inference.predictions import Predictions
from quickdraw_core.store import pack
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.training import network

Openings = Counter[str]
"""Manifests, packs, checkpoints (those of a run folder by name too), networks, predictions."""


def count_openings(patch: pytest.MonkeyPatch) -> Openings:
    """Counts from now on, as long as the patch holds."""
    counts: Openings = Counter()

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            path = Path(getattr(args[0], "name", "") or "") if name == "checkpoint" else Path()
            if "checkpoints" in path.parts:
                counts["/".join(path.parts[-3:])] += 1
            return work(*args, **options)

        return counting

    patch.setattr(Manifest, "read", counted("manifest", Manifest.read))
    patch.setattr(pack, "_open", counted("pack", pack._open))
    patch.setattr(torch, "load", counted("checkpoint", torch.load))
    patch.setattr(network, "network_of", counted("network", network.network_of))
    patch.setattr(Predictions, "read", counted("predictions", Predictions.read))
    return counts
