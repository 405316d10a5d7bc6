"""How models look at a drawing: test-time augmentation and arithmetic, a table of each."""


class Looks:
    """The names that `--tta` takes."""

    NONE = "none"
    FLIP = "flip"


TTA = {
    Looks.NONE: "each drawing as it is (also mirrored if the model has model.flip_tta)",
    Looks.FLIP: "as it is and mirrored; the mean of the two looks' probabilities",
}
"""A name, and what it does."""


class Precision:
    """The names that `--precision` takes."""

    FP32 = "fp32"
    BF16 = "bf16"


PRECISIONS = {
    Precision.FP32: "float32, in full on every processor",
    Precision.BF16: "bf16 products and convolutions, which not every processor rounds alike",
}
"""A name, and what it means for the numbers."""

UNKNOWN = "unknown"
"""Of predictions that were made before their arithmetic was recorded."""
