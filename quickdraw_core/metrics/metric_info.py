"""How the numbers are called and explained, in the order in which people read them."""

from typing import NamedTuple

from quickdraw_core.metrics.judgement import CLASS_MEAN
from quickdraw_core.metrics.metrics import BINS, CALIBRATION


class Metric(NamedTuple):
    """How a number is called and explained to someone who has never met it.

    digits: after the point, as many as say something. is_share: of drawings, shown in per cent.
    """

    name: str
    meaning: str
    digits: int = 3
    is_share: bool = False

    def shown(self, *values: float) -> str:
        """One number, or the two of an interval."""
        scale, unit = (100, "\N{NO-BREAK SPACE}%") if self.is_share else (1, "")
        return " to ".join(f"{scale * value:.{self.digits}f}" for value in values) + unit


METRICS = {
    "map_at_3": Metric(
        "MAP@3",
        "a right first guess counts 1, a right second 1/2, a right third 1/3, anything else 0; "
        "the mean over all drawings",
    ),
    CLASS_MEAN: Metric(
        "MAP@3, mean of classes", "every class counts the same, however many drawings it has"
    ),
    "top_1": Metric("top-1 accuracy", "drawings whose first guess is right", 1, True),
    "top_3": Metric("top-3 hit rate", "drawings with the right word among three guesses", 1, True),
    "mean_rank": Metric("mean rank", "place of the right word among all words; 1 is best", 2),
    "log_loss": Metric(
        "log loss",
        "−ln of the probability given to the right word, in nats; 0 is best",
    ),
    CALIBRATION: Metric(
        "calibration error",
        f"how far the confidence is from the accuracy, over {BINS} groups of drawings with like "
        "confidence; 0 is best",
    ),
}
