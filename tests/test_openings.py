"""What one call has open is opened once, and anew where it changed meanwhile."""

import shutil
from pathlib import Path

import pytest
from openings import counted_openings

from quickdraw_core.errors import CheckpointError, StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import INGEST_STAGE
from quickdraw_core.launching.train import TRAIN_STAGE, prepare
from quickdraw_core.stage import Opened, perform
from quickdraw_core.store.pack import opened_pack
from quickdraw_core.store.pack_stage import PACK_STAGE, PackConfig
from quickdraw_core.store.store import Store, keep_store, open_manifest, open_store
from quickdraw_core.training.checkpoint import find_checkpoint, open_checkpoint, save_checkpoint
from quickdraw_core.training.run_folder import RunFolder


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


def test_ingest_and_pack_open_everything_once(csv_folder: Path, tmp_path: Path) -> None:
    store, source = tmp_path / "store", tmp_path / "csv"
    source.mkdir()

    def opened_by_both() -> tuple[dict[str, int], bool]:
        """How often what was opened, by its path; whether anything was to do."""
        opened = Opened()
        config = IngestConfig.parse({"source": source, "store": store, "workers": 1})
        with counted_openings() as counts:
            ingested = perform(INGEST_STAGE, config, opened)
            packed = perform(PACK_STAGE, PackConfig(store=ingested.store), opened)
        assert ingested.skipped == packed.skipped
        own = {path: n for path, n in counts.items() if path.startswith(str(tmp_path))}
        return {
            str(Path(path).relative_to(tmp_path)): n for path, n in own.items()
        }, packed.skipped

    for manifests, word in enumerate(("sun", "star")):  # a new store, and one that grows
        shutil.copy(csv_folder / f"{word}.csv", source)
        counts, skipped = opened_by_both()
        assert not skipped
        assert counts.get("store/manifest.json", 0) == manifests
        assert counts["csv"] == 1
    counts, skipped = opened_by_both()
    assert skipped
    parts = [str(p.relative_to(tmp_path)) for p in (store / "drawings").glob("*/*")]
    once = ["csv", "csv/sun.csv", "csv/star.csv", "store/manifest.json", *parts]
    once += [str(p.relative_to(tmp_path)) for p in (store / "pack").glob("*/pack.json")]
    assert {path: counts[path] for path in once} == dict.fromkeys(once, 1)


@pytest.mark.parametrize("left", ["nothing", "all but its end", "everything"])
def test_a_training_opens_everything_once(
    left: str, trained: Path, empty_database: Path, tmp_path: Path
) -> None:
    """A new one, one that goes on, and one that is finished; each is looked at again."""
    run, asked = tmp_path / "run", "none"
    if left == "nothing":
        asked = f"sqlite:///{shutil.copy(empty_database, tmp_path)}"
    else:
        shutil.copytree(trained, run)
    if left == "all but its end":
        for path in sorted((run / "checkpoints").glob("step-*.pt"))[1:]:
            path.unlink()
    config = RunFolder.read(trained).config.updated({"run_dir": run, "tracking": {"uri": asked}})
    opened = Opened()
    with counted_openings() as counts:
        result = perform(TRAIN_STAGE, config, opened)
        open_checkpoint(result.best_checkpoint, opened)  # as an evaluation after it does
        assert prepare(config, opened).finished() is not None
    assert result.skipped == (left == "everything")
    once = {"manifest.json", "pack.json", "run.json"}
    large = {Path(p): n for p, n in counts.items() if Path(p).name in once or p.endswith(".pt")}
    assert {str(p): n for p, n in large.items() if n != 1} == {}
    names = {path.name for path in large}
    assert {"manifest.json", result.best_checkpoint.name} <= names
    assert ("pack.json" in names) == (left != "everything")
