"""The place of the model that a server guesses with: another takes it without a pause."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quickdraw_core.serving.recognizer import Recognizer

NO_MODEL = "no model has been loaded yet; try again in a few seconds"


class ModelSlot:
    """Holds the recognizer of now, or why there is none.

    A batch takes `current` once, so it is guessed by one model from begin to end; the former
    model is dropped when the last batch that uses it has ended.
    """

    def __init__(self) -> None:
        self._current: Recognizer | None = None
        self.missing = NO_MODEL
        """A sentence for users: why there is no model, and what to do. Shown by `/readyz`."""
        self.problem: str | None = None
        """What keeps a newer model from its place, in a sentence; None: nothing."""

    @property
    def current(self) -> "Recognizer | None":
        """The model to guess with now; None: not one was loaded so far."""
        return self._current

    def swap(self, recognizer: "Recognizer") -> "Recognizer | None":
        """Puts a model in and returns the former one. From any thread.

        A drawing is simplified and guessed before, so that no request waits for what the first
        one loads and compiles; an error of it is raised, and the former model stays.
        """
        from quickdraw_core.formats.raw_drawing import drawing_of_raw

        recognizer.log_probabilities(drawing_of_raw(_SAMPLE))
        former, self._current = self._current, recognizer
        return former


_SAMPLE = [([0.0, 100.0], [0.0, 100.0]), ([9.0], [9.0])]
