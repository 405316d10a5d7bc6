"""The pack as a stage."""

import fcntl
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from quickdraw_core.errors import BusyError, StoreError
from quickdraw_core.formats.detect import TEST_COLUMNS
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.stage import Opened, perform
from quickdraw_core.store.pack import class_starts
from quickdraw_core.store.pack_stage import PACK_STAGE, PackConfig, prepare
from quickdraw_core.store.store import Store


def test_a_pack_is_built_and_then_found(store: Store, tmp_path: Path) -> None:
    copy = shutil.copytree(store.path, tmp_path / "store", ignore=shutil.ignore_patterns("pack"))
    config = PackConfig(store=copy)
    assert prepare(config, Opened()).finished() is None
    built, found = perform(PACK_STAGE, config), perform(PACK_STAGE, config)
    assert (built.skipped, found.skipped) == (False, True)
    assert (built.path, built.drawings) == (found.path, found.drawings)
    assert built.drawings == store.manifest.rows_kept


def test_finding_the_classes_copies_no_label() -> None:
    labels = np.repeat(np.array([0, 1, 4], np.uint16), 1_000_000)
    tracemalloc.start()
    try:
        starts = class_starts(labels, np.arange(6))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert starts.tolist() == [0, 1_000_000, 2_000_000, 2_000_000, 2_000_000, 3_000_000]
    assert peak_bytes < labels.nbytes / 100


def test_a_damaged_pack_is_not_taken_for_one(store: Store, tmp_path: Path) -> None:
    config = PackConfig(store=shutil.copytree(store.path, tmp_path / "store"))
    folder = perform(PACK_STAGE, config).path
    np.save(folder / "labels.npy", np.zeros(3, np.uint16))
    prepared = prepare(config, Opened())
    assert prepared.finished() is None
    with pytest.raises(StoreError, match=r"has labels of 3 values, .*; delete that folder"):
        prepared.run()


def test_a_pack_of_before_is_not_deleted_while_another_command_builds_beside_it(
    store: Store, tmp_path: Path
) -> None:
    config = PackConfig(store=shutil.copytree(store.path, tmp_path / "store"))
    folder = perform(PACK_STAGE, config).path
    PACK_STAGE.anew(config, Opened(), folder.stat().st_mtime - 1)
    assert folder.is_dir()
    later = folder.stat().st_mtime + 1
    assert PACK_STAGE.is_of_before(config, later, Opened())
    opened = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="builds a pack beside"):
            PACK_STAGE.anew(config, Opened(), later)
    finally:
        os.close(opened)
    assert folder.is_dir()
    PACK_STAGE.anew(config, Opened(), later)
    assert not folder.exists()


def test_drawings_without_words_are_refused_before_work(tmp_path: Path) -> None:
    row = '9000003627287624,DE,"[[[0,9],[0,9]]]"'
    (tmp_path / "test.csv").write_text(f"{','.join(TEST_COLUMNS)}\n{row}\n")
    values = {"source": tmp_path / "test.csv", "store": tmp_path / "store", "workers": 1}
    ingest(IngestConfig.parse(values))
    with pytest.raises(StoreError, match="have no words"):
        prepare(PackConfig(store=tmp_path / "store"), Opened())
    assert not (tmp_path / "store" / "pack").exists()
