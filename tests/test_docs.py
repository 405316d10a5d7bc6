"""The code that the documentation shows runs as it stands, on a store at the place it names."""

import re
from pathlib import Path

import numpy as np
import pytest

from quickdraw_core.formats.header import TRAIN_COLUMNS
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.run import ingest

from writers import csv_line, random_rows  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = [
    pytest.param(block, id=f"{path.name} {number}")
    for path in sorted((ROOT / "docs").glob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.S))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train_simplified` and `store`, as the documentation calls them."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "train_simplified").mkdir()
    for seed, word in enumerate(("cat", "sun")):
        lines = map(csv_line, random_rows(np.random.default_rng(seed), 60, word))
        text = (",".join(TRAIN_COLUMNS) + "\n").encode() + b"".join(lines)
        (folder / "train_simplified" / f"{word}.csv").write_bytes(text)
    ingest(IngestConfig(source=(str(folder / "train_simplified"),), store=folder / "store"))
    return folder


def test_there_is_code_to_try() -> None:
    assert {"duckdb", "polars", "pandas", "scan"} <= {
        name for block in BLOCKS for name in re.findall(r"\w+", block.values[0])
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_of_the_documentation_runs(
    block: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    exec(block, {})
