"""Generated doodles of which some have another word than they were drawn for, and some repeat."""

import csv
import json
from pathlib import Path

from quickdraw_core.sources.doodles.generator import generate_csvs


def mislabelled_csvs(
    folder: Path, words: tuple[str, ...], rows: int, swapped: int, repeated: int = 0
) -> tuple[set[int], set[int]]:
    """Writes a CSV of each word; of each, the first `swapped` drawings are the next word's, and
    the last `repeated` are those before them again, one pixel off.

    Returns the key_ids with a wrong word, and those of drawings that are there twice.
    """
    files = generate_csvs(folder, words, rows, seed=3, unrecognized_share=0.0)
    tables = [list(csv.DictReader(file.read_text().splitlines())) for file in files]
    first = [[row["drawing"] for row in table[:swapped]] for table in tables]
    wrong, twice = set[int](), set[int]()
    for number, table in enumerate(tables):
        for row, drawing in zip(table[:swapped], first[(number + 1) % len(tables)], strict=True):
            row["drawing"] = drawing
            wrong.add(int(row["key_id"]))
        for offset in range(repeated):
            row, original = table[-1 - offset], table[-1 - repeated - offset]
            row["drawing"] = _one_pixel_off(original["drawing"])
            twice |= {int(row["key_id"]), int(original["key_id"])}
    for file, table in zip(files, tables, strict=True):
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, table[0].keys())
            writer.writeheader()
            writer.writerows(table)
    return wrong, twice


def _one_pixel_off(drawing: str) -> str:
    moved = [[xs, [min(y + 1, 255) for y in ys]] for xs, ys in json.loads(drawing)]
    return json.dumps(moved)
