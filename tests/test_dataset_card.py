"""A store's dataset card: other tools load the store by it, and it says what is there."""

import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from quickdraw_core.dataset_card.content import SplitCounts
from quickdraw_core.dataset_card.readme import describe
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.ingest.summary import ingest_facts
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.describe import describe_store
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify import verify_store

POINTS = ("x", "y", "stroke_lengths")
CARD = ("README.md", "croissant.json")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of a hub, and nothing is kept in the home folder."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "croissant"))


def front_matter(store: Store) -> dict[str, Any]:
    text = (Path(str(store.path)) / "README.md").read_text("utf-8")
    value: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return value


def test_the_python_of_the_readme_loads_the_store(
    store: Store, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(str(store.path))
    monkeypatch.chdir(folder.parent)
    assert folder.name == "store"  # as the lines call it
    text = (folder / "README.md").read_text("utf-8")
    found: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, found)
    by_word = Counter(dict.fromkeys(store.label_map.words, 0))
    for file in store.manifest.files:
        by_word[str(file.word)] += file.rows
    assert len(found["drawings"]) == store.manifest.rows_kept
    assert len(found["some"]) == by_word[store.label_map.words[0]]
    assert Counter(word.replace("_", " ") for word in found["labelled"]["word"]) == by_word
    names = np.array([side.name.lower() for side in Split])
    sides = store.manifest.holdout.split(np.array(found["drawings"]["key_id"], np.uint64))
    assert (found["split"] == names[sides]).all()
    first = found["drawings"][0]
    batch = DrawingBatch.from_columns(*(pa.array([first[name]]) for name in POINTS))
    strokes = [[x.tolist(), y.tolist()] for x, y in found["strokes"]]
    assert strokes == [[list(x), list(y)] for x, y in batch.strokes(0)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib and pandas
def test_croissant_is_valid_and_gives_the_drawings(store: Store, offline: None) -> None:
    import mlcroissant

    folder = Path(str(store.path))
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    assert dataset.metadata.ctx.is_v1_1()
    assert dataset.metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    counts = {r["splits/split"]: r["splits/rows"] for r in dataset.records("splits")}
    described = describe_store(store.path)
    assert counts == {side.name.lower(): getattr(described, side.name.lower()) for side in Split}
    rows = {r["words/word"]: r["words/rows"] for r in dataset.records("words")}
    assert rows == {row.word: row.drawings for row in described.by_class}
    records = list(dataset.records("drawings"))
    assert len(records) == described.drawings
    word = store.label_map.words[0]
    table = pq.read_table(folder / f"drawings/word={word}", partitioning=None)
    of_word = [r for r in records if r["drawings/word"] == word.encode()]
    assert [r["drawings/key_id"] for r in of_word] == table["key_id"].to_pylist()
    for column in POINTS:
        assert [r[f"drawings/{column}"] for r in of_word] == table[column].to_pylist()
    assert [r["drawings/recognized"] for r in of_word] == table["recognized"].to_pylist()


def test_the_card_says_what_is_there(store: Store) -> None:
    folder, manifest, described = Path(str(store.path)), store.manifest, describe_store(store.path)
    text = (folder / "README.md").read_text("utf-8")
    assert f"Fingerprint: `{manifest.fingerprint}`" in text
    for row in described.by_class:
        numbers = f"{row.drawings:,} | {row.train:,} | {row.validation:,} | {row.test:,}"
        assert f"| {row.word} | {numbers} |" in text
    assert f"| test | {described.test:,} | {described.test / described.drawings:.1%} |" in text
    assert "creativecommons.org/licenses/by/4.0" in text
    assert "4 files of CSV in the form of Kaggle's challenge: all rows, 4 windows" in text
    assert str(folder) not in text  # nor where the sources were
    assert manifest.sources[0].location not in text
    front = front_matter(store)
    assert front["license"] == "cc-by-4.0"
    assert len(front["configs"]) == 1 + len(store.label_map)
    value = json.loads((folder / "croissant.json").read_text("utf-8"))
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert value["distribution"][0]["sha256"] == digest
    assert value["identifier"] == manifest.fingerprint
    assert value["conformsTo"] == "http://mlcommons.org/croissant/1.1"


def small(tmp_path: Path, rows: int = 40) -> IngestConfig:
    source = tmp_path / "csv"
    if not source.exists():
        source.mkdir()
        generate_csvs(source, ("sun", "star"), rows, seed=1)
    return IngestConfig(source=source, store=tmp_path / "store", test_per_class=5, workers=1)


def test_rejected_rows_and_chosen_windows_are_in_the_card(tmp_path: Path) -> None:
    config = small(tmp_path).updated({"rows": "head:20", "max_rejected": 0.5})
    path = tmp_path / "csv" / "sun.csv"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([lines[0], *("nothing" for _ in lines[1:3]), *lines[3:]]), "utf-8")
    result = ingest(config)
    text = (tmp_path / "store" / "README.md").read_text("utf-8")
    assert "40 rows read = 38 kept + 2 rejected. The rejected ones are in `quarantine/`" in text
    (reason,) = result.rejected
    assert f"| {reason} | 2 |" in text
    assert "rows `head:20`, 2 windows" in text


def test_a_store_without_a_card_gets_one_at_the_next_ingest(tmp_path: Path) -> None:
    config, folder = small(tmp_path), tmp_path / "store"
    before = ingest(config).fingerprint
    whole = {name: (folder / name).read_bytes() for name in CARD}
    assert not verify_store(folder).notes
    for name in CARD:
        (folder / name).unlink()
    result = verify_store(folder)
    assert not result.problems
    (note,) = result.notes
    assert "no README.md and no croissant.json: no dataset card; the next ingest" in note
    again = ingest(config)
    assert again.skipped
    assert again.fingerprint == before
    assert {name: (folder / name).read_bytes() for name in CARD} == whole
    assert not verify_store(folder).notes


def test_a_card_of_other_drawings_is_noted_and_replaced(tmp_path: Path) -> None:
    config, folder = small(tmp_path), tmp_path / "store"
    ingest(config)
    path = folder / "croissant.json"
    for text in (json.dumps({"identifier": "0" * 64}), "[]", "no JSON"):
        path.write_text(text, "utf-8")
        assert "describes other drawings than the manifest's" in verify_store(folder).notes[0]
        assert ingest(config).skipped
        assert not verify_store(folder).notes


def test_a_card_that_cannot_be_written_costs_only_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path)
    ingest(config)
    (tmp_path / "store" / "README.md").unlink()

    def refused(*_: object) -> None:
        raise StoreError("access denied")

    monkeypatch.setattr(LocalStorage, "write", refused)
    result = ingest(config)
    assert result.skipped
    assert ingest_facts(result)["dataset card"] == "not all written: access denied"


def test_a_folder_with_a_readme_of_its_own_is_no_store(tmp_path: Path) -> None:
    config, folder = small(tmp_path), tmp_path / "store"
    folder.mkdir()
    (folder / "README.md").write_text("# My thesis\n", "utf-8")
    with pytest.raises(StoreError, match=r"is not a store: it holds README\.md"):
        ingest(config)
    shutil.rmtree(folder)
    ingest(config)
    for name in ("manifest.json", "croissant.json"):
        (folder / name).unlink()
    with pytest.raises(StoreError, match=r"holds README\.md"):
        ingest(config.updated({"rows": "head:10"}))


def test_a_store_that_lost_half_of_its_card_gets_it_again(tmp_path: Path) -> None:
    config, folder = small(tmp_path), tmp_path / "store"
    ingest(config)
    whole = {name: (folder / name).read_bytes() for name in CARD}
    (folder / "croissant.json").unlink()
    result = ingest(config)
    assert result.skipped
    assert "up to date, but croissant.json and README.md written" in ingest_facts(result)["store"]
    assert {name: (folder / name).read_bytes() for name in CARD} == whole
    assert "nothing to do" in ingest_facts(ingest(config))["store"]


def test_a_readme_of_somebody_else_in_a_store_stays(tmp_path: Path) -> None:
    config, folder = small(tmp_path), tmp_path / "store"
    ingest(config)
    (folder / "README.md").write_text("# My thesis\n", "utf-8")
    (folder / "croissant.json").unlink()
    for again in (config, config.updated({"rows": "head:10"})):
        result = ingest(again)
        assert "README.md is not a dataset card" in ingest_facts(result)["dataset card"]
        assert (folder / "README.md").read_text("utf-8") == "# My thesis\n"
        assert json.loads((folder / "croissant.json").read_bytes())["name"]
        assert any("move it away" in note for note in verify_store(folder).notes)
        (folder / "croissant.json").unlink()


def test_the_card_has_the_digest_of_the_manifest_as_it_is_stored(tmp_path: Path) -> None:
    config, folder = small(tmp_path), tmp_path / "store"
    ingest(config)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes())), "utf-8")
    (folder / "croissant.json").unlink()
    assert ingest(config).skipped
    value = json.loads((folder / "croissant.json").read_bytes())
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert value["distribution"][0]["sha256"] == digest


def test_one_word_and_one_drawing_are_singular() -> None:
    word = SimpleNamespace(total=SplitCounts(train=23), words=("sun",))
    assert describe(word).startswith("23 drawings of 1 word in")  # type: ignore[arg-type]
    one = SimpleNamespace(total=SplitCounts(train=1), words=())
    assert describe(one).startswith("1 drawing in")  # type: ignore[arg-type]
