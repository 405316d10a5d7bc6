import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from quickdraw_core.errors import CheckpointError
from quickdraw_core.inference.inspection import inspect_model
from quickdraw_core.inference.references import load_model
from quickdraw_core.labels import LabelMap
from quickdraw_core.training.checkpoint import (
    Checkpoint,
    find_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.state import Validations


def a_checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        states={
            "model": {"weight": torch.full((2, 2), float(step))},
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
            "loader": {"epoch": 0, "step": step},
            "validations": {"metrics": {"map_at_3": 0.5}, "best": 0.5, "since_best": 0},
        },
        config={"model": {"name": "net"}},
        labels=LabelMap.of(["cat", "dog"]).to_json(),
        train_counts=[5, 6],
        store_fingerprint="abc",
        mlflow_run_id="run",
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, a_checkpoint(7), is_best=True, keep=2)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.states["model"].pop("weight"), torch.full((2, 2), 7.0))
    expected = a_checkpoint(7)
    expected.states["model"].pop("weight")
    assert loaded == expected
    assert loaded.label_map.words == ("cat", "dog")


def test_a_checkpoint_of_version_2_opens() -> None:
    """Written when the parts stood beside the facts, with a running average of its weights."""
    old = load_checkpoint(Path(__file__).with_name("kept") / "checkpoint-version-2.pt")
    assert (old.step, old.metrics, old.train_counts) == (3, {"map_at_3": 0.25}, [5, 6])
    assert old.label_map.words == ("cat", "dog")
    assert old.weights_sha256.startswith("9e0b509052ae3856")
    assert torch.equal(old.weights["weight"], torch.full((2, 2), 2.5))
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    network = torch.nn.ParameterDict({"weight": weight})
    parts = {"model": network, "ema": AveragedModel(network), "validations": Validations()}
    parts["optimizer"] = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    for name, part in parts.items():
        part.load_state_dict(old.states[name])
    assert torch.equal(weight, torch.full((2, 2), 3.0))
    assert parts["ema"].n_averaged == 3
    assert parts["validations"] == Validations({"map_at_3": 0.25}, 0.5, since_best=2)
    assert old.states["loader"] == {"epoch": 1, "step": 1}


def test_a_run_of_before_options_were_grouped_still_opens(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    kept = Path(__file__).with_name("kept") / "config-ungrouped.json"
    config = json.loads(kept.read_text("utf-8"))
    config |= {"model": "net", "side_px": 24, "small_stem": None}
    path = find_checkpoint(folder, "last")
    assert path is not None
    torch.save(torch.load(path, weights_only=True) | {"config": config}, path)
    values = json.loads((folder / "run.json").read_text("utf-8"))
    (folder / "run.json").write_text(json.dumps(values | {"config": config}), "utf-8")

    model = load_model(str(path))
    assert model.config == RunFolder.read(folder).config
    assert (model.config.optimizer.name, model.config.model.flip_tta) == ("muon", True)
    assert inspect_model(model)["config"]["optimizer"]["clip_norm"] == 1
    images = torch.zeros(1, 3, 24, 24, dtype=torch.uint8)
    assert model.logits(images).isfinite().all()
    assert load_model(str(folder), average=2).logits(images).isfinite().all()


def test_the_last_few_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        save_checkpoint(tmp_path, a_checkpoint(step), is_best=step == 2, keep=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.pt"))
    assert names == ["step-00000002.pt", "step-00000005.pt", "step-00000006.pt"]
    last, best = find_checkpoint(tmp_path, "last"), find_checkpoint(tmp_path, "best")
    assert last is not None
    assert best is not None
    assert (last.name, best.name) == ("step-00000006.pt", "step-00000002.pt")
    assert find_checkpoint(tmp_path / "elsewhere", "best") is None


def test_a_torn_or_foreign_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path,
) -> None:
    paths = [save_checkpoint(tmp_path, a_checkpoint(step), True, keep=9) for step in (1, 2, 3, 4)]
    paths[3].write_bytes(paths[3].read_bytes()[:-100])  # torn at the end
    damaged = bytearray(paths[2].read_bytes())
    damaged[len(damaged) // 2] ^= 1  # one bit of it
    paths[2].write_bytes(bytes(damaged))
    found = latest_checkpoint(tmp_path, lambda checkpoint: checkpoint.step != 2)
    assert found.step == 1
    for path, text in zip(paths[:0:-1], found.refused, strict=True):
        assert path.name in text
    assert "no checkpoint that can be read" in found.refused[0]
    assert "other options or data" in found.refused[2]
    with pytest.raises(CheckpointError, match="--fresh starts over"):
        latest_checkpoint(tmp_path, lambda checkpoint: False)
    assert latest_checkpoint(tmp_path / "elsewhere", lambda checkpoint: True).step == 0


def test_a_save_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path, a_checkpoint(1), is_best=True, keep=2)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for step in (1, 2):
        with pytest.raises(OSError, match="no space left"):
            save_checkpoint(tmp_path, a_checkpoint(step), is_best=True, keep=2)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["best", "last", path.name]


def test_what_a_kill_left_of_a_save_is_swept_away(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, a_checkpoint(1), is_best=True, keep=2).parent
    (folder / ".step-00000002.pt.0badcafe.tmp").write_bytes(b"half")
    save_checkpoint(tmp_path, a_checkpoint(3), is_best=False, keep=2)
    assert not list(folder.glob(".*"))


def test_the_digest_of_the_weights_tells_them_apart_and_nothing_else() -> None:
    one, again = a_checkpoint(1), replace(a_checkpoint(1), step=9)
    assert one.weights_sha256 == again.weights_sha256
    assert one.weights_sha256 != a_checkpoint(2).weights_sha256
    reshaped = one.with_weights({"weight": one.weights["weight"].view(4)})
    assert reshaped.weights_sha256 != one.weights_sha256
    ema = {"n_averaged": torch.tensor(1), "module.weight": a_checkpoint(2).weights["weight"]}
    averaged = replace(one, states=one.states | {"ema": ema})
    assert averaged.weights_sha256 == a_checkpoint(2).weights_sha256


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("evil"),))


def test_what_is_no_checkpoint_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(tmp_path, a_checkpoint(1), is_best=True, keep=1)
    torn = tmp_path / "torn.pt"
    torn.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"torn\.pt is no checkpoint that can be read"):
        load_checkpoint(torn)
    with pytest.raises(CheckpointError, match=r"no checkpoint .*absent"):
        load_checkpoint(tmp_path / "absent.pt")
    for value, name in [({"weight": torch.ones(1)}, "foreign.pt"), ([1], "list.pt")]:
        torch.save(value, tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name} holds no checkpoint of this program"):
            load_checkpoint(tmp_path / name)
    path = save_checkpoint(tmp_path, replace(a_checkpoint(2), version=99), True, 1)
    with pytest.raises(CheckpointError, match="has checkpoint version 99"):
        load_checkpoint(path)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"model": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(CheckpointError, match="no checkpoint that can be read"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "evil").exists()
