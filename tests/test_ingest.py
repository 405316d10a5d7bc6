import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from file_tree import sha256_of
from forkserver import real_python

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import ConfigError, InputError, StoreError
from quickdraw_core.formats.detect import TRAIN_COLUMNS, Header
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.ingest import target
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.ingest.target import Target
from quickdraw_core.ingest.tasks import IndexTask, ingest_windows, plan_source, window_tasks
from quickdraw_core.sources.find import find_sources
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.schema import SCHEMA
from quickdraw_core.store.store import Store

from conftest import ROWS, WORDS  # isort: skip


def run(source: Path, store: Path, **options: object) -> Store:
    ingest(IngestConfig.parse({"source": source, "store": store, "workers": 2} | options))
    return Store.open(store)


def files_of(store: Path) -> dict[str, str]:
    return {
        p.relative_to(store).as_posix(): sha256_of(p)
        for p in sorted(store.glob("drawings/**/*.parquet"))
    }


def test_the_store_holds_every_row_of_the_csvs(csv_folder: Path, store: Store) -> None:
    for word in WORDS:
        lines = (csv_folder / f"{word}.csv").read_bytes().splitlines(keepends=True)
        rows, _ = KaggleReader(Header(TRAIN_COLUMNS), word).parse_lines(lines[1:], 2)
        parts = sorted((store.path / f"drawings/word={word.replace(' ', '_')}").iterdir())
        table = pq.ParquetFile(parts[0]).read()
        assert table.schema.equals(SCHEMA)
        assert table["key_id"].to_pylist() == rows.key_ids
        assert table["x"].to_pylist() == rows.x
        assert table["y"].to_pylist() == rows.y
        assert table["stroke_lengths"].to_pylist() == rows.stroke_lengths
        assert table["countrycode"].to_pylist() == rows.countrycodes


def test_the_manifest_says_what_is_there(csv_folder: Path, store: Store) -> None:
    manifest = store.manifest
    assert manifest.rows_read == manifest.rows_kept == len(WORDS) * ROWS
    assert manifest.rejected == {}
    assert manifest.label_map.words == tuple(sorted(WORDS))
    assert {s.word: s.size_bytes for s in manifest.sources} == {
        word: (csv_folder / f"{word}.csv").stat().st_size for word in WORDS
    }
    assert Manifest.read(store.path) == manifest
    store.verify()


def test_the_pack_is_the_store_in_flat_arrays(store: Store) -> None:
    pack = open_pack(store)
    row = 0
    for label, table in store.tables():
        batch = DrawingBatch.from_columns(
            *(table[name].combine_chunks() for name in ("x", "y", "stroke_lengths"))
        )
        rows = np.arange(row, row + len(batch))
        assert [pack.drawings.strokes(int(r)) for r in rows] == [
            batch.strokes(i) for i in range(len(batch))
        ]
        assert (pack.labels[rows] == label).all()
        assert pack.key_ids[rows].tolist() == table["key_id"].to_pylist()
        row += len(batch)
    assert row == len(pack)


def test_every_class_has_its_held_out_drawings(store: Store) -> None:
    pack = open_pack(store)
    rows = pack.test_rows(20)
    assert np.bincount(pack.labels[rows]).tolist() == [20] * len(WORDS)
    assert set(pack.splits[rows]) == {Split.TEST}
    hashes = store.manifest.holdout.hashes(np.asarray(pack.key_ids))
    for label in range(len(WORDS)):
        chosen = rows[pack.labels[rows] == label]
        others = np.setdiff1d(pack.rows(Split.TEST, label), chosen)
        assert not len(others) or hashes[chosen].max() < hashes[others].min()


def test_the_same_again_does_nothing(csv_folder: Path, tmp_path: Path) -> None:
    config = IngestConfig(source=csv_folder, store=tmp_path / "store", workers=2)
    first = ingest(config)
    before = {p: p.stat().st_mtime_ns for p in config.store.rglob("*.parquet")}
    second = ingest(config)
    assert (first.skipped, second.skipped) == (False, True)
    assert second.fingerprint == first.fingerprint
    assert {p: p.stat().st_mtime_ns for p in config.store.rglob("*.parquet")} == before


def test_any_number_of_workers_makes_the_same_bytes(csv_folder: Path, tmp_path: Path) -> None:
    one = run(csv_folder, tmp_path / "one", workers=1)
    two = run(csv_folder, tmp_path / "two", workers=2)
    assert files_of(one.path) == files_of(two.path)
    assert one.manifest.fingerprint == two.manifest.fingerprint


def test_growing_keeps_every_drawing_on_its_side(csv_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    small = open_pack(run(csv_folder, store, rows="head:60", test_per_class=10))
    sides = dict(zip(small.key_ids.tolist(), small.splits.tolist(), strict=True))
    large = open_pack(run(csv_folder, store, rows="all", test_per_class=10))
    grown = dict(zip(large.key_ids.tolist(), large.splits.tolist(), strict=True))
    assert len(grown) > len(sides)
    assert {key: grown[key] for key in sides} == sides


def test_another_holdout_rule_is_refused_unless_all_is_made_anew(
    csv_folder: Path, tmp_path: Path
) -> None:
    store = run(csv_folder, tmp_path / "store")
    with pytest.raises(ConfigError, match=r"made with validation_share 0\.05, asked for is 0\.1"):
        run(csv_folder, store.path, validation_share=0.1)
    assert Store.open(store.path).manifest == store.manifest
    renewed = run(csv_folder, store.path, validation_share=0.1, fresh=True)
    assert renewed.manifest.holdout.validation_share == 0.1


def test_fewer_classes_leave_no_file_behind(csv_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(csv_folder, store)
    assert len(run(csv_folder, store, classes=("sun", "star")).label_map) == 2
    assert {path.split("/")[1] for path in files_of(store)} == {"word=sun", "word=star"}


def test_bad_rows_are_quarantined_and_counted(csv_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "csv"
    shutil.copytree(csv_folder, source)
    lines = (source / "sun.csv").read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("]]]", "]]", 1)
    lines[10] = "nonsense\n"
    (source / "sun.csv").write_text("".join(lines))
    store = run(source, tmp_path / "store", max_rejected=0.02)
    assert store.manifest.rows_read == store.manifest.rows_kept + 2
    assert store.manifest.rejected == {
        "brackets of the drawing do not balance": 1,
        "line has fewer fields than the header": 1,
    }
    (path,) = (store.path / "quarantine").rglob("*.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["source"], r["line"]) for r in records] == [("sun.csv", 4), ("sun.csv", 11)]
    assert records[1]["text"] == "nonsense"
    (source / "sun.csv").write_text((csv_folder / "sun.csv").read_text())
    assert run(source, store.path).manifest.rejected == {}
    assert not list(store.path.rglob("*.jsonl"))


def test_a_file_that_changed_since_it_was_planned_is_refused(
    csv_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "csv" / "sun.csv"
    source.parent.mkdir()
    header, _, body = (csv_folder / "sun.csv").read_bytes().partition(b"\n")
    source.write_bytes(header + b"\n" + 4 * body)
    config = IngestConfig.parse({"source": source, "store": tmp_path / "store"})
    (found,) = find_sources(source)
    planned = plan_source(IndexTask(found, config.selection))
    target = Target(config.store, config.salt, config.test_per_class)
    (task,) = window_tasks(config, target, planned)
    status, whole = source.stat(), source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="changed while it was read"):
        ingest_windows(task)
    # Emptied in the middle with its size, its time and its ends as they were: the rows tell.
    edge = 70_000
    source.write_bytes(whole[:edge] + bytes(len(whole) - 2 * edge) + whole[-edge:])
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InputError, match=r"ended [\d,]+ rows early"):
        ingest_windows(task)
    assert not (tmp_path / "store" / "receipts").exists()


def test_a_store_that_lost_or_changed_a_file_is_refused(csv_folder: Path, tmp_path: Path) -> None:
    store = run(csv_folder, tmp_path / "store")
    path = next(store.path.rglob("*.parquet"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="checksum is not the manifest's"):
        Store.open(store.path).verify()
    path.write_bytes(data[:-9])
    with pytest.raises(StoreError, match="bytes, its manifest says"):
        Store.open(store.path)
    path.unlink()
    with pytest.raises(StoreError, match="the store lacks"):
        Store.open(store.path)


def test_ingesting_again_restores_a_damaged_store(csv_folder: Path, tmp_path: Path) -> None:
    store = run(csv_folder, tmp_path / "store")
    paths = sorted(store.path.rglob("*.parquet"))
    before = files_of(store.path)
    paths[0].unlink()
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run(csv_folder, store.path).manifest == store.manifest
    assert files_of(store.path) == before


def test_an_ingest_that_is_killed_at_its_end_is_continued_and_keeps_its_holdout_rule(
    csv_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = run(csv_folder, tmp_path / "store", rows="head:60", test_per_class=10)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, "_set_apart", killed)  # between the old manifest and the new one
    with pytest.raises(KeyboardInterrupt):
        run(csv_folder, store.path)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="its ingest did not finish"):
        Store.open(store.path)
    assert run(csv_folder, store.path).manifest.holdout == store.manifest.holdout
    assert not (store.path / "manifest.previous.json").exists()


def test_a_folder_of_other_things_is_no_store(csv_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match=r"is not a store: it holds thesis\.txt"):
        run(csv_folder, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_absent_scheduler_is_named_and_costs_the_store_nothing(
    csv_folder: Path, tmp_path: Path
) -> None:
    run(csv_folder, tmp_path / "store", rows="head:60")
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run(csv_folder, tmp_path / "store", dask="tcp://127.0.0.1:9")
    Store.open(tmp_path / "store").verify()


def test_a_client_of_dask_comes_to_the_same_store(
    csv_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files, as all of these are, are read by Dask's threaded scheduler."""
    monkeypatch.setattr("quickdraw_core.ingest.make_store.SMALL_BYTES", 0)
    monkeypatch.setattr("dask.threaded.get", None)
    other = run(csv_folder, tmp_path / "store", test_per_class=20)
    assert other.manifest == store.manifest
    assert files_of(other.path) == files_of(store.path)


def test_with_nothing_to_do_no_engine_is_loaded(csv_folder: Path, store: Store) -> None:
    values = {"source": str(csv_folder), "store": str(store.path), "test_per_class": 20}
    code = (
        "import sys\n"
        "from quickdraw_core.ingest.ingest import INGEST_STAGE, IngestConfig\n"
        "from quickdraw_core.stage import perform\n"
        f"assert perform(INGEST_STAGE, IngestConfig.parse({values})).skipped\n"
        "heavy = {'numba', 'dask', 'requests', 'pandas', 'torch', 'pyarrow.compute'}\n"
        "assert not heavy & {*sys.modules}, heavy & {*sys.modules}\n"
    )
    done = subprocess.run([real_python(), "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ingest_needs_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['mlflow'] = None; "
        "import flows.ingest, quickdraw_core.ingest.make_store; "
        "import quickdraw_core.sources.doodles.generator"
    )
    done = subprocess.run([real_python(), "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
