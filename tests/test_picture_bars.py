"""Pictures of real drawings are recognised nearly as often as the drawings themselves."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_pictures import STYLES, picture_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import PictureError
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.reading import strokes_of_picture
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import open_store

RUN = os.environ.get("QUICKDRAW_PICTURE_RUN", "")
"""A run folder of the `laptop` recipe, whose store is where it was."""

LEAST = {"photo": 0.90, "ruled": 0.90}
BLANK = DrawingBatch.from_strokes([[((0,), (0,))]])


def drawing_in(data: bytes) -> DrawingBatch:
    try:
        return strokes_of_picture(open_picture(data)).drawing
    except PictureError:
        return BLANK


@pytest.mark.soak
@pytest.mark.skipif(not RUN, reason="QUICKDRAW_PICTURE_RUN names no trained run")
@pytest.mark.parametrize("style", STYLES)
def test_top_3_of_pictures_is_near_that_of_strokes(style: str) -> None:
    config = json.loads((Path(RUN) / "run.json").read_text())["config"]
    store = open_store(Path(config["store"]), Opened())
    pack, models = open_pack(store), load_models([RUN], "none")
    rows = pack.test_rows(10)
    drawings, labels = pack.drawings.take(rows), pack.labels[rows]

    def hits(batch: DrawingBatch) -> float:
        top = np.argsort(-models.predict(batch).numpy(), axis=1, kind="stable")[:, :3]
        return float((top == labels[:, None]).any(1).mean())

    traced = [
        drawing_in(picture_of(drawings.strokes(i), style, int(row))) for i, row in enumerate(rows)
    ]
    of_pictures, of_strokes = hits(DrawingBatch.concat(traced)), hits(drawings)
    sys.stdout.write(f"{style}: {of_pictures:.3f} of {len(rows)}, by strokes {of_strokes:.3f}\n")
    assert of_pictures >= LEAST.get(style, 0.95) * of_strokes
