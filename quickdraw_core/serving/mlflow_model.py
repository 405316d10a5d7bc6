"""A bundle as MLflow serves it: rows of drawings or pictures → words with probabilities.

MLflow loads this module by its name (`tracking/logged_model.py`) and gives it the bundle's folder.
A row's drawing is a list of strokes, as `POST /api/guess` takes it, or its JSON text; a picture is
a file in base64, with or without the head of a data URL.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import InputError, QuickdrawError
from quickdraw_core.labels import GUESSES
from quickdraw_core.serving.bundle import open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer, Recognizer, top_guesses
from quickdraw_core.tracking.logged_model import DRAWING, PICTURE, WORDS, refusal

if TYPE_CHECKING:
    from pandas import DataFrame


class DrawingModel:
    """What MLflow calls."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer

    def predict(
        self, model_input: "DataFrame", params: Mapping[str, Any] | None = None
    ) -> "DataFrame":
        """For each row a list of words, the most probable first: `[{"word", "probability"}, …]`.

        model_input: the columns `drawing` and `picture`, or one of them. params: `guesses`, how
        many words. Raises MLflow's own error, which its server answers with 400, if a row cannot
        be read.
        """
        import pandas as pd

        count = int((params or {}).get(WORDS, GUESSES))
        if count < 1:
            raise refusal(f"{WORDS} is {count}; ask for one word or more")
        drawings = []
        for number, row in enumerate(model_input.to_dict("records"), 1):
            try:
                drawings.append(_drawing(row))
            except QuickdrawError as error:
                raise refusal(f"row {number}: {error}") from error
        rows: list[list[dict[str, object]]] = []
        if drawings:
            scores = self.recognizer.log_probabilities(DrawingBatch.concat(drawings))
            words = top_guesses(scores, self.recognizer.label_map, count)
            rows = [[guess._asdict() for guess in guesses] for guesses in words]
        return pd.DataFrame({WORDS: rows}, index=model_input.index)


def _drawing(row: Mapping[Any, Any]) -> DrawingBatch:
    """One drawing of a row. Raises `InputError`."""
    given = {key: row[key] for key in (DRAWING, PICTURE) if _is_given(row.get(key))}
    if len(given) != 1:
        found = " and ".join(given) or f"neither {DRAWING} nor {PICTURE}"
        raise InputError(f"it has {found}; give one of {DRAWING} and {PICTURE}")
    return _of_strokes(given[DRAWING]) if DRAWING in given else _of_picture(given[PICTURE])


def _is_given(value: object) -> bool:
    """Pandas has a float, NaN, for what a row leaves out."""
    return value is not None and not isinstance(value, float)


def _of_strokes(value: object) -> DrawingBatch:
    from quickdraw_core.serving.web.answers import Refused
    from quickdraw_core.serving.web.config import MAX_GUESSES, Limits
    from quickdraw_core.serving.web.requests import (
        packed_as_is,
        packed_simplified,
        read_request,
    )

    try:
        text = value if isinstance(value, str) else json.dumps(value, default=_as_list)
        body = f'{{"{DRAWING}": {text}, "guesses": {MAX_GUESSES}}}'.encode()
        asked = read_request(body, Limits())
        packed = packed_as_is(asked) or packed_simplified(asked.strokes)
    except Refused as error:
        raise InputError(str(error)) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"the drawing is no list of strokes: {error}") from error
    return DrawingBatch.from_packed(*([part] for part in packed))


def _as_list(value: Any) -> Any:
    """Arrays of numpy, which some of MLflow's forms become, as lists."""
    return value.tolist()


def _of_picture(text: object) -> DrawingBatch:
    from quickdraw_core.formats.pictures.opening import open_picture
    from quickdraw_core.formats.pictures.reading import strokes_of_picture

    content = str(text)
    if content.startswith("data:"):
        content = content.partition(",")[2]
    try:
        data = base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(
            f"the picture is not base64: {error}; encode the bytes of its file"
        ) from error
    return strokes_of_picture(open_picture(data)).drawing


def _load_pyfunc(path: str) -> DrawingModel:
    """Called by MLflow, with the bundle's folder. Raises `BundleError`."""
    return DrawingModel(BundleRecognizer(open_bundle(Path(path))))
