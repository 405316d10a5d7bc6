"""A training that learns from trained models as well (`distill`)."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from run_folder import curve_of, last_of, samples_of
from torch import Tensor
from trainings import train_config

from quickdraw_core.differences.recorded import recorded_of
from quickdraw_core.differences.why import why
from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.inference.references import load_model
from quickdraw_core.labels import LabelMap
from quickdraw_core.launching.room import training_needs
from quickdraw_core.launching.train import prepare, train
from quickdraw_core.modeling.loss_functions import distillation
from quickdraw_core.retention.runs import find_runs
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.plan import plan_sweep
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.distill import TEACHERS_NAME, copy_teachers
from quickdraw_core.training.network import network_of, teacher_of
from quickdraw_core.training.run_folder import RunFolder


def config_of(store: Store, run_dir: Path, teachers: object, **changes: object) -> TrainConfig:
    """As that of `trained`, shorter."""
    values: dict[str, object] = {"store": store.path, "run_dir": run_dir, "max_steps": 6}
    values |= {
        "tracking.uri": "none",
        "model": "net",
        "image.side_px": 24,
        "augment": None,
        "hardware.ranks": 2,
    }
    values |= {"global_batch_size": 64, "micro_batch_size": 32, "tracking.log_every_steps": 1}
    values |= {"checkpoints.every_steps": 3, "checkpoints.keep": 9}
    values |= {"tracking.record_samples": True, "distill.teachers": teachers}
    return train_config(values, **changes)


@pytest.fixture(scope="module")
def teacher(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that no other test changes."""
    best = find_checkpoint(trained, "best")
    assert best is not None
    return Path(shutil.copy(best, tmp_path_factory.mktemp("teacher") / "teacher.pt"))


@pytest.fixture(scope="module")
def run(store: Store, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run") / "run"
    train(config_of(store, run_dir, [teacher, teacher]))
    return run_dir


def test_the_loss_is_least_where_network_and_teachers_guess_alike() -> None:
    generator = torch.Generator().manual_seed(1)
    one, two = (torch.randn(5, 7, generator=generator) for _ in range(2))
    together = ((one.log_softmax(1) + two.log_softmax(1)) / 2).requires_grad_()
    least = distillation(together, [one, two])
    (gradient,) = torch.autograd.grad(least, together)
    assert gradient.abs().max() < 1e-6
    probabilities = together.softmax(1)
    entropy = -(probabilities * probabilities.log()).sum(1).mean()
    torch.testing.assert_close(least, entropy)
    assert distillation(one, [one, two]) > least
    torch.testing.assert_close(distillation(one + 3, [two - 5]), distillation(one, [two]))
    # Of 16 bits: computed in float32.
    short: list[Tensor] = [two.bfloat16()]
    assert distillation(one.bfloat16(), short).dtype == torch.float32


def test_what_the_teachers_guess_is_learnt(store: Store, teacher: Path, tmp_path: Path) -> None:
    """With their guesses alone: the words, all of which are one, teach nothing."""
    values: Mapping[str, object] = {"distill.share": 1, "max_steps": 40, "hardware.ranks": 1}
    values = {**values, "optimizer.learning_rate": 0.01, "checkpoints.every_steps": 40}
    train(config_of(store, tmp_path / "run", teacher, **values))
    student = last_of(tmp_path / "run").metrics["map_at_3"]
    assert student > 0.55  # 0.46 by chance
    assert student < load_checkpoint(teacher).metrics["map_at_3"] + 0.1


def test_a_teacher_is_used_as_it_is(run: Path, teacher: Path) -> None:
    for copy in sorted((run / TEACHERS_NAME).iterdir()):
        assert copy.read_bytes() == teacher.read_bytes()
    checkpoint = load_checkpoint(teacher)
    network = teacher_of(checkpoint)
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    images = torch.rand(3, 3, 24, 24)
    torch.testing.assert_close(network(images), network_of(checkpoint)[0](images))


def test_a_run_that_was_cut_off_comes_to_the_same_bit_for_bit_also_by_its_own_copies(
    run: Path, store: Store, teacher: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "run"
    shutil.copytree(run, cut)
    kept, *later = sorted((cut / "checkpoints").glob("step-*.pt"))
    for path in later:
        path.unlink()
    for pointer in ("last", "best"):
        (cut / "checkpoints" / pointer).write_text(kept.name)
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    step = f'"step": {int(kept.stem[5:]) + 1},'
    first = next(number for number, line in enumerate(lines) if step in line)
    (cut / "journal.jsonl").write_text("".join(lines[:first]))
    copies = [cut / TEACHERS_NAME / f"{number}.pt" for number in range(2)]
    copies[1].unlink()  # it is put back
    assert train(config_of(store, cut, [copies[0], teacher])).resumed_from > 0
    assert copies[1].read_bytes() == teacher.read_bytes()
    assert curve_of(cut) == curve_of(run)
    assert samples_of(cut) == samples_of(run)
    assert last_of(cut).weights_sha256 == last_of(run).weights_sha256
    alone = {"hardware.ranks": 1, "fresh": True}
    train(config_of(store, cut, copies, **alone))
    assert all(copy.is_file() for copy in copies)
    weights, other = last_of(run).weights, last_of(cut).weights
    for name, value in weights.items():
        if value.is_floating_point() and "running" not in name:
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_it_is_another_training_by_the_teachers_files_not_by_where_they_are(
    run: Path, store: Store, teacher: Path, trained: Path, tmp_path: Path
) -> None:
    def identity(*teachers: Path) -> str:
        return config_of(store, tmp_path, list(teachers)).identity("store", "code")

    moved = Path(shutil.copy(teacher, tmp_path / "moved.pt"))
    last = find_checkpoint(trained, "last")
    assert last is not None
    without = config_of(store, tmp_path, teacher).model_copy(update={"distill": None})
    names = {identity(teacher), identity(teacher, teacher), without.identity("store", "code")}
    assert len(names) == 3
    assert identity(moved) == identity(teacher) == identity(trained)
    assert (identity(last) == identity(teacher)) == (last.read_bytes() == teacher.read_bytes())
    assert train(config_of(store, run, [moved, teacher])).skipped
    with pytest.raises(CheckpointError, match="holds a run with other options, data or code"):
        train(config_of(store, run, teacher))
    with pytest.raises(CheckpointError, match="holds a run with other options, data or code"):
        train(config_of(store, run, [teacher, teacher], **{"distill.share": 0.4}))


def test_what_is_recorded_of_a_training_names_its_teachers(
    run: Path, trained: Path, store: Store, teacher: Path
) -> None:
    distill = RunFolder.read(run).config.distill
    assert distill is not None
    assert distill.teachers_sha256 is not None
    assert distill.teachers == (teacher, teacher)
    sides = [
        recorded_of(name, load_model(str(path)), "none", store.manifest)
        for name, path in (("without", trained), ("with", run))
    ]
    rows = {row.name: row for row in why(*sides).rows}
    assert rows["distill"].first == "none"
    assert rows["distill"].second.startswith(
        f"teachers_sha256=2: {distill.teachers_sha256[0][:12]}"
    )
    (found,) = find_runs(run.parent)
    assert str(teacher) in found.refers_to


def test_teachers_that_cannot_teach_are_refused_before_anything_is_begun(
    store: Store, teacher: Path, tmp_path: Path
) -> None:
    def refused(message: str, teachers: object = teacher, **changes: object) -> None:
        with pytest.raises((ConfigError, CheckpointError), match=message):
            prepare(config_of(store, tmp_path / "run", teachers, **changes), Opened())

    empty = tmp_path / "empty"
    empty.mkdir()
    torn = tmp_path / "torn.pt"
    torn.write_bytes(teacher.read_bytes()[:-99])
    refused("no checkpoint of the teacher .*nowhere", tmp_path / "nowhere.pt")
    refused("no checkpoint of the teacher .*empty .*give a .pt file, or a run folder", empty)
    refused("torn.pt is no checkpoint that can be read", torn)
    refused("reads order of 24 px, and the training order of 32 px", **{"image.side_px": 32})
    refused("reads order of 24 px, and the training gray of", **{"image.encoding": "gray"})
    refused("not the files that distill.teachers_sha256", **{"distill.teachers_sha256": ["0"]})
    checkpoint = torch.load(teacher, weights_only=True)
    checkpoint["labels"] = LabelMap.of(["sun", "star", "zebra", "ant"]).to_json()
    torch.save(checkpoint, tmp_path / "other.pt")
    refused(r"only in the teacher .*other.pt: ant, zebra; only in", tmp_path / "other.pt")
    checkpoint = torch.load(teacher, weights_only=True)
    checkpoint["store_fingerprint"] = "0" * 64
    torch.save(checkpoint, tmp_path / "elsewhere.pt")
    refused("may have learned drawings that are held out here", tmp_path / "elsewhere.pt")
    taken = config_of(store, tmp_path / "run", tmp_path / "elsewhere.pt")
    prepare(taken.updated({"distill": {"other_store": True}}), Opened())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"distill\.teachers"):
        config_of(store, tmp_path, [])
    for share in (0, 1.5):
        with pytest.raises(ConfigError, match=r"distill\.share"):
            config_of(store, tmp_path, teacher, **{"distill.share": share})
    with pytest.raises(ConfigError, match=r"distill\.teachers"):
        train_config({"distill.share": 0.3})
    with pytest.raises(ConfigError, match=r"unknown option 'distill\.teacher': .*teachers"):
        train_config({"distill.teacher": "runs/a"})


def test_the_disk_must_hold_the_copies(store: Store, teacher: Path, tmp_path: Path) -> None:
    needs = training_needs(config_of(store, tmp_path / "run", [teacher, teacher]), tmp_path, 4)
    (need,) = (need for need in needs if need.what == "copies of the teachers")
    assert need.size_bytes == 2 * teacher.stat().st_size


def test_a_run_may_learn_from_the_one_that_it_replaces(
    run: Path, store: Store, tmp_path: Path
) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    best = find_checkpoint(own, "best")
    assert best is not None
    before = best.read_bytes()
    values = {"fresh": True, "max_steps": 1, "hardware.ranks": 1}
    train(config_of(store, own, own, **values))
    assert [copy.read_bytes() for copy in (own / TEACHERS_NAME).iterdir()] == [before]


def test_a_teacher_that_is_written_again_meanwhile_is_refused(
    store: Store, teacher: Path, tmp_path: Path
) -> None:
    moving = Path(shutil.copy(teacher, tmp_path / "moving.pt"))
    distill = config_of(store, tmp_path / "run", moving).distill
    assert distill is not None
    recorded = distill.recorded()
    moving.write_bytes(b"another")
    with pytest.raises(CheckpointError, match=r"moving\.pt was written again since"):
        copy_teachers(recorded, tmp_path / "run")
    assert not any((tmp_path / "run" / TEACHERS_NAME).iterdir())


def test_the_rows_of_a_sweep_know_their_teachers_from_any_folder(
    store: Store, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(teacher.parent)
    table = tmp_path / "table.toml"
    table.write_text(
        'name = "tiny"\n[values]\nmodel = "net"\nimage = { side_px = 24 }\n'
        "hardware = { ranks = 1 }\n"
        '[[rows]]\nname = "Student"\nvalues = { distill = { teachers = ["teacher.pt"] } }\n'
    )
    values = {"table": str(table), "store": store.path, "run_dir": tmp_path / "sweep"}
    sweep = plan_sweep(SweepConfig.parse(values | {"tracking_uri": "none"}), Opened())
    distill = sweep.row("Student").config.distill
    assert distill is not None
    assert distill.teachers == (teacher,)
    assert distill.teachers_sha256 is not None
