"""In which arithmetic models are judged: float32 unless asked for, whatever trained them."""


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
