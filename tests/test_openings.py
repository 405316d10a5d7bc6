"""What one call has open is opened once, and anew where it changed meanwhile."""

import shutil
from pathlib import Path

import pytest

from quickdraw_core.errors import CheckpointError, StoreError
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import opened_pack
from quickdraw_core.store.store import Store, keep_store, open_manifest, open_store
from quickdraw_core.training.checkpoint import find_checkpoint, open_checkpoint, save_checkpoint


def test_a_store_is_opened_once_until_its_manifest_is_written_anew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(store.path, tmp_path / "store", ignore=shutil.ignore_patterns("pack"))
    monkeypatch.chdir(tmp_path)
    opened = Opened()
    first = open_store(copy, opened)
    assert open_store(Path("store"), opened) is first
    first.manifest.write(copy)
    second = open_store(copy, opened)
    assert second is not first
    first.manifest.write(copy)
    keep_store(copy, first.manifest, opened)
    assert open_store(copy, opened) == first
    assert open_manifest(copy, opened) is first.manifest
    (copy / "manifest.json").unlink()
    with pytest.raises(StoreError, match="its ingest did not finish"):
        open_store(copy, opened)


def test_a_pack_is_opened_once_until_it_is_built_anew(store: Store, tmp_path: Path) -> None:
    copy = shutil.copytree(store.path, tmp_path / "store", ignore=shutil.ignore_patterns("pack"))
    opened = Opened()
    packed = open_store(copy, opened)
    first = opened_pack(packed, opened)
    assert opened_pack(packed, opened) is first
    shutil.rmtree(first.path)
    second = opened_pack(packed, opened)
    assert second is not first
    assert second.path == first.path


def test_a_checkpoint_is_read_once_until_it_is_written_anew(trained: Path, tmp_path: Path) -> None:
    path = find_checkpoint(shutil.copytree(trained, tmp_path / "run"), "best")
    assert path is not None
    opened = Opened()
    first = open_checkpoint(path, opened)
    assert open_checkpoint(path, opened) is first
    save_checkpoint(tmp_path / "run", first, is_best=True, keep=3)
    assert open_checkpoint(path, opened) is not first
    path.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        open_checkpoint(path, opened)
