"""Several models that guess together: the mean of their probabilities (one alone is itself).

Models that differ err on different drawings; their mean errs on fewer than each (Hansen and
Salamon, "Neural network ensembles", 1990). They may read different encodings and sizes.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import CheckpointError, EvaluationError
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import Looks, Precision
from quickdraw_core.inference.references import load_model
from quickdraw_core.labels import LabelMap, require_same_labels
from quickdraw_core.stage import Opened
from quickdraw_core.tracking.run_record import tracking_uri_of_run

PREDICTING_CODE = (
    "drawing.py",
    *("inference/ensemble.py", "inference/model.py", "inference/predict.py"),
    *("inference/predictions.py", "loading", "modeling", "render", "store/pack.py"),
    *("training/hardware.py", "training/network.py"),
)
"""What decides what is predicted, beside the weights and the drawings."""


@dataclass(frozen=True)
class Ensemble:
    """One model or several, of the same words."""

    members: tuple[TrainedModel, ...]

    @property
    def label_map(self) -> LabelMap:
        """The words of all members."""
        return self.members[0].label_map

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the guesses: all members' weights, how they look, and their
        arithmetic where it is not float32.
        """
        parts = [
            f"{m.checkpoint.weights_sha256} {m.config.model.flip_tta} {m.tta}"
            + ("" if m.precision == Precision.FP32 else f" {m.precision}")
            for m in self.members
        ]
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()

    @property
    def name(self) -> str:
        """For people: the model, or the models, and what is done beside their plain use."""
        names = " + ".join(member.name for member in self.members)
        variant = self.members[0].variant
        return f"{names} ({variant})" if variant else names

    @property
    def precision(self) -> str:
        """What all members compute in, a name of PRECISIONS."""
        return self.members[0].precision

    def log_probabilities(self, images: Sequence[Tensor]) -> Tensor:
        """Natural logarithms, float32 [N, K] on the CPU, of each member's images: uint8
        [N, C, S, S] as its encoding draws them. Raises `EvaluationError` for a model that gives
        no numbers.
        """
        members = zip(self.members, images, strict=True)
        seen = [member.logits(drawn).log_softmax(1) for member, drawn in members]
        for member, found in zip(self.members, seen, strict=True):
            if found.isnan().any():  # of no rank, which counting would take for the best
                raise EvaluationError(
                    f"the model {member.name} gives outputs that are no numbers (NaN): its "
                    "weights are broken, or overflow in this precision; give another checkpoint"
                )
        if len(seen) == 1:
            return seen[0]
        return torch.stack(seen).logsumexp(0) - math.log(len(seen))

    def look_at(self, drawings: DrawingBatch) -> Tensor:
        """Draws for each member and returns the log probabilities: float32 [N, K]."""
        from quickdraw_core.render.encodings import render

        return self.log_probabilities(
            [torch.from_numpy(render(drawings, member.image)) for member in self.members]
        )


def load_models(
    references: Sequence[str],
    tracking_uri: str | None = None,
    average: int = 1,
    tta: str = Looks.NONE,
    local_rank: int = 0,
    precision: str = Precision.FP32,
    opened: Opened | None = None,
) -> Ensemble:
    """Opens each as `load_model` does. Raises `CheckpointError` where their words differ."""
    opened = opened or Opened()
    members = [
        load_model(r, tracking_uri, average, tta, local_rank, precision, opened)
        for r in references
    ]
    for reference, member in zip(references[1:], members[1:], strict=True):
        require_same_labels(
            members[0].label_map,
            f"the model {references[0]}",
            member.label_map,
            f"the model {reference}",
            CheckpointError,
        )
    return Ensemble(tuple(members))


def tracking_uri_of(asked: str | None, models: Ensemble) -> str:
    """Where the models' run is, as `tracking_uri_of_run`."""
    return tracking_uri_of_run(asked, models.members[0].run_dir)
