import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quickdraw_core.errors import CheckpointError
from quickdraw_core.labels import LabelMap
from quickdraw_core.training.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)


def a_checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        model={"weight": torch.full((2, 2), float(step))},
        optimizer={"state": {}, "param_groups": [{"lr": 0.1}]},
        config={"model": "net"},
        labels=LabelMap.of(["cat", "dog"]).to_json(),
        train_counts=[5, 6],
        store_fingerprint="abc",
        mlflow_run_id="run",
        metrics={"map_at_3": 0.5},
        best=0.5,
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, a_checkpoint(7), is_best=True, keep=2)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model.pop("weight"), torch.full((2, 2), 7.0))
    expected = a_checkpoint(7)
    expected.model.pop("weight")
    assert loaded == expected
    assert loaded.label_map.words == ("cat", "dog")


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
