"""The reader of each form that a file can have."""

from quickdraw_core.formats.binary import BinaryReader
from quickdraw_core.formats.detect import Layout, Shape
from quickdraw_core.formats.header import Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.ndjson import NdjsonReader
from quickdraw_core.formats.reader import RowReader


def reader_for(shape: Shape, word: str | None) -> RowReader:
    """The reader of a file of this shape whose rows all draw `word`; None where it has none."""
    if shape.layout is Layout.CSV:
        return KaggleReader(Header(shape.header or ()), word, shape.raw)
    if shape.layout is Layout.NDJSON:
        return NdjsonReader(word, shape.raw)
    return BinaryReader(word)
