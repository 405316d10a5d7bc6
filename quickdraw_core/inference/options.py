"""How models predict: test-time augmentation and arithmetic, a table of each."""


class Tta:
    """The names that `--tta` takes."""

    NONE = "none"
    FLIP = "flip"


TTA = {
    Tta.NONE: "each drawing as it is (also mirrored if the model has model.flip_tta)",
    Tta.FLIP: "each drawing as it is and mirrored; the mean of both probabilities",
}
"""Name → what it does."""


class Precision:
    """The names that `--precision` takes."""

    FP32 = "fp32"
    BF16 = "bf16"


PRECISIONS = {
    Precision.FP32: "float32, in full on every processor",
    Precision.BF16: "bf16 products and convolutions, which not every processor rounds alike",
}
"""Name → what it means for the numbers."""

UNKNOWN = "unknown"
"""The precision of predictions made before it was recorded."""
