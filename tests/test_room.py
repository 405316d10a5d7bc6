"""Disks that cannot hold what work would write are refused before it starts, with both numbers."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trainings import train_config

from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.room import drawings_in, store_needs
from quickdraw_core.launching.room import checkpoint_bytes, checkpoints_need, training_needs
from quickdraw_core.launching.train import needs_of, prepare, train
from quickdraw_core.modeling.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer
from quickdraw_core.pipeline import Pipeline, run_pipeline
from quickdraw_core.reading.windows import RowSelection
from quickdraw_core.sources.find import find_sources
from quickdraw_core.stage import Opened, perform
from quickdraw_core.store.pack import Pack, is_packed, pack_folder
from quickdraw_core.store.pack_arrays import pack_bytes
from quickdraw_core.store.store import Store
from quickdraw_core.system import disk
from quickdraw_core.system.disk import Need, require_room, size_of_files
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every disk has 50.0 kB free."""
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 50_000)


def config_of(store: Path, run_dir: Path, **changes: object) -> TrainConfig:
    values = {"store": store, "run_dir": run_dir, "hardware.ranks": 1, "tracking.uri": "none"}
    return train_config(values | {"model": "net", "image.side_px": 24, "max_steps": 2}, **changes)


def test_needs_of_one_disk_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_disk: None
) -> None:
    store, run = tmp_path / "not" / "yet", tmp_path / "run"
    needs = [Need("store", 30_000, store, "--store"), Need("run", 20_000, run, "--run-dir")]
    require_room(needs)
    with pytest.raises(ConfigError) as refused:
        require_room([*needs, Need("pack", 1_000, store, "--store")])
    assert str(refused.value) == (
        f"the disk of {tmp_path} has 50.0 kB free, and about 51.0 kB are needed (store 30.0 kB, "
        "run 20.0 kB, pack 1.0 kB); make room, or give a folder on another disk with --run-dir or "
        "--store"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_is_refused_before_it_starts(
    csv_folder: Path, store: Store, tmp_path: Path, small_disk: None
) -> None:
    job = Pipeline(
        IngestConfig.parse({"source": csv_folder, "store": tmp_path / "store"}),
        config_of(tmp_path / "store", tmp_path / "run"),
        EvaluateConfig.parse({"allow_short": True, "tracking_uri": "none"}),
    )
    told = (
        r"has 50.0 kB free, and about .* needed \(store .*, pack .*, checkpoints .*\); make room"
    )
    with pytest.raises(ConfigError, match=told):
        run_pipeline(job, perform, Opened())
    assert list(tmp_path.iterdir()) == []


def test_a_training_is_refused_before_it_starts(
    store: Store, tmp_path: Path, small_disk: None
) -> None:
    config = config_of(store.path, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"needed \(checkpoints .* --run-dir$"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_plan_is_refused_before_it_packs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store.path, copy, ignore=shutil.ignore_patterns("pack*"))
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1_000)
    with pytest.raises(ConfigError, match=r"needed \(pack .* --store$"):
        prepare(config_of(copy, tmp_path / "run"), Opened()).estimate(None)
    assert not is_packed(pack_folder(Store.open(copy)))


def test_what_is_there_needs_no_room(store: Store, pack: Pack, tmp_path: Path) -> None:
    config = config_of(store.path, tmp_path)
    size = checkpoint_bytes(config, 4)
    (first,) = needs_of(config, store, Opened())  # of the pack nothing: it is there
    assert first.size_bytes == (config.checkpoints.keep + 2) * size
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-1.pt").write_bytes(b"x" * size)
    left = [replace(first, size_bytes=first.size_bytes - size)]
    assert needs_of(config, store, Opened()) == left
    assert checkpoints_need(config, Path("new"), size, written=1).size_bytes == 2 * size
    assert pack_bytes(store.manifest) == pytest.approx(
        size_of_files(pack_folder(store)), abs=2_000
    )


def test_a_tracked_run_needs_room_for_its_model_and_for_what_mlflow_copies(
    store: Store, trained: Path, tmp_path: Path
) -> None:
    """By the real sizes of a run whose MLflow is a file beside it."""
    config, written = RunFolder.read(trained).config, trained.parent / "mlartifacts"
    untouched = trained.parent / "untouched" / "mlartifacts"  # other tests write to the other
    size = next((trained / "checkpoints").glob("*.pt")).stat().st_size
    new = config.updated({"run_dir": tmp_path / "new"})
    needs = {n.what: n for n in training_needs(new, tmp_path / "new", 4, size)}
    assert list(needs) == ["checkpoints", "model for MLflow", "copies in MLflow"]
    bundle = sum(path.stat().st_size for path in (trained / "model").rglob("model.*"))
    assert needs["model for MLflow"].size_bytes == pytest.approx(2 * bundle, rel=0.1)
    copies = [p for p in untouched.rglob("*") if p.suffix in (".pt", ".onnx", ".safetensors")]
    whole = sum(path.stat().st_size for path in copies)
    assert needs["copies in MLflow"].size_bytes == pytest.approx(whole, rel=0.1)
    assert needs["copies in MLflow"].folder == written
    again = {n.what: n for n in training_needs(config, trained, 4, size)}
    assert again["copies in MLflow"].size_bytes < 0.5 * whole  # the checkpoints are overwritten
    elsewhere = config.updated({"tracking": {"uri": "http://127.0.0.1:9"}})
    assert "copies in MLflow" not in {n.what for n in training_needs(elsewhere, tmp_path, 4)}


def test_what_an_ingest_will_write_is_about_what_it_writes(csv_folder: Path, store: Store) -> None:
    config = IngestConfig.parse({"source": csv_folder, "store": "nowhere"})
    files = find_sources(str(csv_folder))
    _, packed = store_needs(config, files)
    assert packed.size_bytes == pytest.approx(pack_bytes(store.manifest), rel=0.4)
    head = store_needs(config.updated({"rows": "head:10"}), files)
    assert head[1].size_bytes == 40 * 125
    assert store_needs(config.updated({"store": "s3://bucket/store"}), files) == []
    left = store_needs(config.updated({"store": store.path}), files)[0]
    assert left.size_bytes < store_needs(config, files)[0].size_bytes


def test_real_drawings_are_counted_by_their_bytes_and_never_too_many(shared_data: Path) -> None:
    files = find_sources(str(shared_data / "train_simplified"))
    rows = sum(Path(file.location).read_bytes().count(b"\n") - 1 for file in files)
    assert 0.8 * rows < drawings_in(files, RowSelection("all")) <= rows
    assert drawings_in(find_sources(str(shared_data / "raw")), RowSelection("all")) > 0.5 * 8_000


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_numbers_that_an_optimizer_keeps_are_in_its_state(name: str) -> None:
    layers = [torch.nn.Linear(64, 64, bias=False) for _ in range(4)]
    network = torch.nn.Sequential(*layers)
    optimizer = build_optimizer(OptimizerConfig.parse({"name": name}), network)
    network(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    kept = numbers_in(optimizer.state_dict()) / (4 * 64 * 64)
    assert OPTIMIZERS[name].numbers <= kept < OPTIMIZERS[name].numbers + 1


def numbers_in(state: object) -> int:
    if isinstance(state, torch.Tensor):
        return state.numel()
    values = list(state.values()) if isinstance(state, dict) else state
    return sum(map(numbers_in, values)) if isinstance(values, list) else 0
