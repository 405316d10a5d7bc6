"""The code in the documentation runs, its links lead somewhere, its index names every command."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from quickdraw_core.cli import app
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.training.config import TrainConfig

from writers import csv_line, random_rows  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = [
    pytest.param(block, id=f"{path.name} {number}")
    for path in sorted((ROOT / "docs").glob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.S))
]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


def broken_links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield f"{page.relative_to(ROOT)}: {link}"


def test_links_lead_to_pages_and_headings() -> None:
    assert [link for page in PAGES for link in broken_links(page)] == []


def test_the_index_names_every_command() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    names = [made.name or made.callback.__name__ for made in app.registered_commands]  # type: ignore[union-attr]
    missing = [name for name in names if f"quickdraw {name.replace('_', '-')}" not in index]
    assert missing == []


def test_options_of_a_training_exist() -> None:
    """Those of `--set`, and those that the page's tables name with their group."""
    text = (ROOT / "docs" / "training.md").read_text()
    names = {name for name in re.findall(r"--set ([a-z_.]+)=", text) if name != "key"}
    names |= set(re.findall(r"`((?!torch)[a-z]+\.[a-z_]+)[`=]", text))
    assert "optimizer.learning_rate" in names
    assert [name for name in sorted(names) if not is_option(TrainConfig, name)] == []


def is_option(config: type[BaseModel], name: str) -> bool:
    first, _, rest = name.partition(".")
    field = config.model_fields.get(first)
    if field is None or not rest:
        return field is not None
    kinds = get_args(field.annotation) or (field.annotation,)
    groups = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return any(is_option(group, rest) for group in groups)


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
