"""A batch of drawings → guesses: what a thread of the batcher does."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from quickdraw_core.drawing import DrawingBatch, UInt8Array
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.answers import unavailable
from quickdraw_core.serving.web.config import MAX_GUESSES
from quickdraw_core.serving.web.requests import Asking

if TYPE_CHECKING:
    from quickdraw_core.serving.recognizer import Guess

NOT_READY_SECONDS = 5
"""After which a client may ask again if there is no model."""


class Guessed(NamedTuple):
    """Of one drawing. images: uint8 [C, side, side] each; None: not asked for."""

    name: str
    version: str
    guesses: "Sequence[Guess]"
    images: list[tuple[ImageConfig, UInt8Array]] | None


def guess_batch(slot: ModelSlot) -> Callable[[Sequence[Asking]], list[Guessed]]:
    """The function that guesses a batch with the model that is in the slot at that moment."""
    from quickdraw_core.serving.recognizer import top_guesses

    def compute(batch: Sequence[Asking]) -> list[Guessed]:
        recognizer = slot.current
        if recognizer is None:
            raise unavailable(slot.missing, NOT_READY_SECONDS)
        drawings = _batch_of(batch)
        log_probabilities = recognizer.log_probabilities(drawings)
        count = max((asking.guesses for asking in batch), default=MAX_GUESSES)
        words = top_guesses(log_probabilities, recognizer.label_map, count)
        answers = []
        for asking, guesses in zip(batch, words, strict=True):
            images = None
            if asking.show_images:
                of_one = recognizer.images(_batch_of([asking]))
                images = [(config, pixels[0]) for config, pixels in of_one]
            answers.append(
                Guessed(recognizer.name, recognizer.version, guesses[: asking.guesses], images)
            )
        return answers

    return compute


def _batch_of(batch: Sequence[Asking]) -> DrawingBatch:
    return DrawingBatch.from_packed(*zip(*(asking.packed for asking in batch), strict=True))
