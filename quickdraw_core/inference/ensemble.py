"""One model, or several whose probabilities are averaged.

Models that differ err on different drawings; their mean errs on fewer than each (Hansen and
Salamon, "Neural network ensembles", 1990). They may read different encodings and sizes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quickdraw_core.drawing import DrawingBatch, Int64Array
from quickdraw_core.errors import CheckpointError, EvaluationError
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import Precision, Tta
from quickdraw_core.inference.references import load_model
from quickdraw_core.labels import GUESSES, LabelMap, require_same_labels
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.serving.evaluated import digest_of
from quickdraw_core.stage import Opened
from quickdraw_core.tracking.run_record import tracking_uri_of_run

PREDICTING_CODE = (
    "drawing.py",
    *("formats/raw_drawing.py", "formats/scanning/simplification.py"),
    *("inference/ensemble.py", "inference/model.py", "inference/partial.py"),
    *("inference/pieces.py", "inference/predict.py", "inference/predictions.py"),
    *("loading", "modeling", "render"),
    *("store/pack.py", "training/hardware.py", "training/network.py"),
)
"""The code that decides what is predicted, beside the weights and the drawings."""


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
        """SHA-256 of what decides the predictions: all members' weights, TTA and precision."""
        return digest_of(
            (m.checkpoint.weights_sha256, m.config.model.flip_tta, m.tta, m.precision)
            for m in self.members
        )

    @property
    def name(self) -> str:
        """For people: the models' names, and how they are used if not plainly."""
        names = " + ".join(member.name for member in self.members)
        variant = self.members[0].variant
        return f"{names} ({variant})" if variant else names

    @property
    def precision(self) -> str:
        """What all members compute in, a name of PRECISIONS."""
        return self.members[0].precision

    @property
    def train_counts(self) -> Int64Array:
        """Training drawings of each word, over all members: int64 [K]."""
        counts = [member.checkpoint.train_counts for member in self.members]
        total: Int64Array = np.array(counts, np.int64).sum(0)
        return total

    @property
    def most_common_labels(self) -> Int64Array:
        """The labels with most training drawings, int64 [3]: the answer for an unreadable one."""
        return np.argsort(-self.train_counts, kind="stable")[:GUESSES]

    def tracking_uri(self, uri: str | None) -> str:
        """MLflow's address: `uri` if given, else the one that the first member's run has."""
        return tracking_uri_of_run(uri, self.members[0].run_dir)

    def predict(self, drawings: DrawingBatch) -> Tensor:
        """Natural log probabilities of N drawings: float32 [N, K] on the CPU.

        Raises `EvaluationError` if a model gives NaN.
        """
        return self.log_probabilities(self.images(drawings))

    def images(self, drawings: DrawingBatch) -> list[Tensor]:
        """The drawings as each member reads them: uint8 [N, C, S, S], shared if it is the same."""
        from quickdraw_core.render.encodings import render

        images: dict[ImageConfig, Tensor] = {}
        for member in self.members:
            if member.image not in images:
                threads = max(1, member.feed.threads)
                drawn = render(drawings, member.image, threads=threads)
                images[member.image] = torch.from_numpy(drawn)
        return [images[member.image] for member in self.members]

    def log_probabilities(self, images: Sequence[Tensor]) -> Tensor:
        """As `predict`, of each member's images, as `images` gives them."""
        each = []
        for member, images_nchw in zip(self.members, images, strict=True):
            each.append(member.logits(images_nchw).log_softmax(1))
            if each[-1].isnan().any():  # they have no rank, and would count as the best
                raise EvaluationError(
                    f"the model {member.name} gives outputs that are no numbers (NaN): its "
                    "weights are broken, or overflow in this precision; give another checkpoint"
                )
        if len(each) == 1:
            return each[0]
        return torch.stack(each).logsumexp(0) - math.log(len(each))


def load_models(
    references: Sequence[str],
    tracking_uri: str | None = None,
    average: int = 1,
    tta: str = Tta.NONE,
    local_rank: int = 0,
    precision: str = Precision.FP32,
    opened: Opened | None = None,
) -> Ensemble:
    """Opens each as `load_model` does. Raises `CheckpointError` if their words differ."""
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
