"""Test-time augmentation: how often, and how, a drawing is looked at."""


class Looks:
    """The names that `--tta` takes."""

    NONE = "none"
    FLIP = "flip"


TTA = {
    Looks.NONE: "each drawing as it is (both ways round where the model was trained with mirror)",
    Looks.FLIP: "as it is and mirrored; the mean of the two looks' probabilities",
}
"""A name, and what it does."""
