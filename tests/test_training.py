"""The training stage with real processes: two ranks under torch's launcher."""

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from forkserver import real_python
from processes import TRAIN, rank_processes
from surroundings import pretend_gpus
from trainings import train_config

from quickdraw_core.commands.launched import launched_train_config
from quickdraw_core.errors import CheckpointError, ConfigError, StoreError, TrainingError
from quickdraw_core.launching.rendezvous import free_port
from quickdraw_core.launching.train import prepare, train
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store
from quickdraw_core.training import hardware
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.hardware import HardwareConfig, unused_gpus
from quickdraw_core.training.plan import Plan, Rows, checked_rows
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.state import Validations


def config_of(store: Store, run_dir: Path, **changes: object) -> TrainConfig:
    values = {"store": store.path, "run_dir": run_dir, "epochs": 3, "tracking.uri": "none"}
    values |= {"model": "net", "image.side_px": 24, "image.encoding": "gray"}
    values |= {"global_batch_size": 64, "micro_batch_size": 32, "tracking.log_every_steps": 1}
    return train_config(values, **changes)


OFTEN = {"checkpoints": {"every_steps": 2}}
"""So that most of the steps are left when the first one is there."""


def losses(run_dir: Path) -> dict[int, float]:
    """The curve of a run; a step that stands twice is an error."""
    curve: dict[int, float] = {}
    for line in (run_dir / "journal.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "train/loss" in record.get("metrics", {}):
            assert record["step"] not in curve
            curve[record["step"]] = record["metrics"]["train/loss"]
    return curve


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two ranks."""
    run_dir = tmp_path_factory.mktemp("finished")
    result = train(config_of(store, run_dir))
    assert not result.skipped
    assert result.steps == len(losses(run_dir))
    return run_dir


def test_the_loss_falls_and_validation_is_above_chance(finished: Path, store: Store) -> None:
    curve = losses(finished)
    assert curve[max(curve)] < 0.8 * curve[1]
    best = load_checkpoint(finished / "checkpoints" / _best(finished))
    assert best.metrics["map_at_3"] > 0.6
    assert best.label_map == store.label_map
    assert not any(key.startswith(("module.", "_orig_mod.")) for key in best.weights)


def _best(run_dir: Path) -> str:
    return (run_dir / "checkpoints" / "best").read_text().strip()


def test_a_finished_run_is_not_trained_again(finished: Path, store: Store) -> None:
    before = (finished / "journal.jsonl").read_bytes()
    assert train(config_of(store, finished)).skipped
    assert (finished / "journal.jsonl").read_bytes() == before
    with pytest.raises(CheckpointError, match="holds a run with other options, data or code"):
        train(config_of(store, finished, seed=1))


def test_a_run_killed_after_its_last_checkpoint_is_said_to_be_finished_by_the_next_command(
    finished: Path, store: Store, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    config, journal = config_of(store, tmp_path / "run"), tmp_path / "run" / "journal.jsonl"
    assert train(config).skipped
    whole = journal.read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(whole) if '"checkpoints/last.pt"' in line)
    journal.write_text("".join(whole[:last]))
    assert prepare(config, Opened()).finished() is None
    assert train(config).skipped
    assert prepare(config, Opened()).finished() is not None
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [r["status"] for r in records if "status" in r] == ["RUNNING", "FINISHED"]
    assert [r["artifact"] for r in records if "file" in r] == [
        json.loads(line)["artifact"] for line in whole if '"file"' in line
    ]


def test_a_killed_rank_ends_the_run_and_the_same_command_completes_it_bit_for_bit(
    finished: Path, store: Store, tmp_path: Path
) -> None:
    run_dir = tmp_path / "killed"
    killer = threading.Thread(target=_kill_a_rank_after_validation, args=(run_dir,))
    killer.start()
    with pytest.raises(TrainingError, match=r"training failed: .*see .*log\.txt") as failed:
        train(config_of(store, run_dir, **OFTEN))
    killer.join()
    assert "SignalException" not in str(failed.value)  # how the launcher ends the other rank
    result = train(config_of(store, run_dir))
    assert result.resumed_from > 0
    assert losses(run_dir) == losses(finished)
    killed = load_checkpoint(run_dir / "checkpoints" / _best(run_dir)).weights
    whole = load_checkpoint(finished / "checkpoints" / _best(finished)).weights
    assert all(torch.equal(killed[key], whole[key]) for key in whole)


def _kill_a_rank_after_validation(run_dir: Path) -> None:
    deadline = time.monotonic() + 300
    while not (run_dir / "checkpoints" / "last").exists():
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
    for pid in rank_processes(run_dir)[:1]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.services  # a chain of real processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent-death signal is Linux's")
def test_no_rank_outlives_a_killed_command(store: Store, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    config = config_of(store, run_dir, epochs=1000)
    command = [real_python(), "-c", TRAIN, config.model_dump_json()]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 300
        while not (run_dir / "checkpoints" / "last").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        assert len(rank_processes(run_dir)) == 2
        process.kill()
    deadline = time.monotonic() + 60
    while rank_processes(run_dir):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_goes_on_with_another_number_of_ranks(
    finished: Path, store: Store, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    killer = threading.Thread(target=_kill_a_rank_after_validation, args=(run_dir,))
    killer.start()
    with pytest.raises(TrainingError):
        train(config_of(store, run_dir, **OFTEN))
    killer.join()
    assert train(config_of(store, run_dir, hardware={"ranks": 1})).resumed_from > 0
    alone, two = losses(run_dir), losses(finished)
    assert list(alone) == list(two)
    assert list(alone.values()) == pytest.approx(list(two.values()), rel=0.05)


def test_a_launcher_keeps_no_number_for_each_drawing_while_its_ranks_train(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[weakref.ref[Rows]] = []

    def choose(config: TrainConfig, pack: Pack) -> Rows:
        rows = checked_rows(config, pack)
        chosen.append(weakref.ref(rows))
        return rows

    def launched(_run: RunFolder, plan: Plan, *_: object) -> list[str]:
        assert [rows() for rows in chosen] == [None]
        assert not plan.rows.train.flags.owndata  # it is mapped from the run folder
        raise TrainingError("that is all")

    monkeypatch.setattr("quickdraw_core.launching.train.checked_rows", choose)
    monkeypatch.setattr("quickdraw_core.launching.train.launch", launched)
    with pytest.raises(TrainingError, match="that is all"):
        train(config_of(store, tmp_path / "run"))


def test_one_rank_sees_the_same_samples_as_two(
    finished: Path, store: Store, tmp_path: Path
) -> None:
    train(config_of(store, tmp_path / "one", hardware={"ranks": 1}, epochs=0.5))
    alone, two = losses(tmp_path / "one"), losses(finished)
    # The schedule's length differs, so the first step is the one with the same learning rate.
    assert alone[1] == pytest.approx(two[1], rel=1e-5)


def test_divergence_stops_the_run_says_where_and_keeps_the_last_good_checkpoint(
    store: Store, tmp_path: Path
) -> None:
    config = config_of(
        store,
        tmp_path / "run",
        optimizer={"learning_rate": 1e9, "name": "sgd"},
        schedule={"name": "constant", "warmup_steps": 9},
        tracking={"log_every_steps": 5},
        checkpoints={"every_steps": 1},
    )
    with pytest.raises(
        TrainingError, match=r"is (nan|-?inf) at step \d+, learning rate [\d.]+e\+0\d: .* diverged"
    ):
        train(config)
    kept = find_checkpoint(tmp_path / "run", "last")
    if kept is not None:
        weights = load_checkpoint(kept).weights.values()
        assert all(bool(torch.isfinite(value).all()) for value in weights)


def test_training_stops_when_validation_brings_nothing_better(
    store: Store, tmp_path: Path
) -> None:
    validation = {"patience": 3, "every_epochs": 0.5}
    config = config_of(store, tmp_path, epochs=200, validation=validation)
    result = train(config)
    assert result.steps < 600
    path = find_checkpoint(tmp_path, "last")
    assert path is not None
    last = load_checkpoint(path)
    assert (last.finished, last.validations["since_best"]) == (True, 3)
    assert train(config).skipped


@pytest.mark.parametrize(
    "options",
    [
        {"model.precision": "bf16", "optimizer.clip_norm": 1.0, "optimizer.learning_rate": 0.01},
        {"model": "stroke_transformer", "image.encoding": "points", "optimizer": "muon",
         "global_batch_size": 8, "micro_batch_size": 8, "epochs": 0.4,
         "optimizer.learning_rate": 0.004},
        {"model": "net", "image.encoding": "gray", "loss": "softmax_reciprocal",
         "optimizer": "adam", "schedule": "multistep", "image.draw_on": "device",
         "hardware.channels_last": False,
         "optimizer.learning_rate": 0.005},
        {"loss": "balanced_softmax", "loss.tau": 0.5, "loss.label_smoothing": 0.1,
         "optimizer.learning_rate": 0.01},
        {"model": "sketch_fusion", "image.encoding": "order_points", "optimizer": "muon",
         "global_batch_size": 16, "micro_batch_size": 16, "epochs": 0.5,
         "optimizer.learning_rate": 0.003},
        pytest.param({"hardware.compile": True, "optimizer.learning_rate": 0.01},
                     marks=pytest.mark.soak),
        pytest.param({"hardware.compile": True, "model": "sketch_fusion",
                      "image.encoding": "order_points", "optimizer.learning_rate": 0.01,
                      "global_batch_size": 16, "micro_batch_size": 16, "epochs": 0.5},
                     marks=pytest.mark.soak),
    ],
)  # fmt: skip
def test_the_switches_train(options: dict[str, object], store: Store, tmp_path: Path) -> None:
    defaults = {"optimizer.learning_rate": 0.002, "optimizer.ema_decay": 0.8}
    defaults |= {"hardware.ranks": 1, "image.side_px": 24}
    train(config_of(store, tmp_path, **(defaults | options)))
    curve = losses(tmp_path)
    assert curve[max(curve)] < 0.95 * curve[1]


def test_two_hosts_train_as_one_with_as_many_ranks(
    finished: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")  # both hosts are this one
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more round otherwise
    endpoint = f"127.0.0.1:{free_port()}"
    run_dir = tmp_path / "run"

    def host(number: int) -> TrainConfig:
        hosts = {"nodes": 2, "node_rank": number, "rendezvous": endpoint}
        return config_of(store, run_dir, hardware={"ranks": 1}, hosts=hosts)

    joining = subprocess.Popen([sys.executable, "-c", TRAIN, host(1).model_dump_json()])
    try:
        train(host(0))
        assert joining.wait(300) == 0
    finally:
        joining.kill()
        joining.wait()
    assert losses(run_dir) == losses(finished)


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory by RLIMIT_DATA")
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_global_one(
    store: Store, tmp_path: Path
) -> None:
    code = TRAIN.replace("train(TrainConfig", "result = train(TrainConfig")
    limit = 4 << 30  # processors need more or less: the first limit that 256 do not fit into
    while limit > 1 << 30:
        run_dir = tmp_path / str(limit)
        config = config_of(
            store, run_dir, hardware={"ranks": 1}, epochs=1, image={"side_px": 160},
            global_batch_size=256, micro_batch_size=256, model={"precision": "fp32"},
        )  # fmt: skip
        process = subprocess.run(
            [real_python(), "-c", code + "; print(result.notes)", config.model_dump_json()],
            preexec_fn=functools.partial(resource.setrlimit, resource.RLIMIT_DATA, (limit, limit)),
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(losses(run_dir)) == 1
        if process.stdout.strip() != "()":
            break
        limit = int(limit * 0.7)
    assert "out of memory with 256 drawings at once: went on with 128" in process.stdout
    assert RunFolder.read(run_dir).micro_split > 1


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
def test_memory_does_not_grow_over_2000_steps(store: Store, tmp_path: Path) -> None:
    config = config_of(
        store, tmp_path, model="net", image={"encoding": "gray", "side_px": 24},
        global_batch_size=32, micro_batch_size=16, epochs=200, validation={"every_epochs": 10},
    )  # fmt: skip
    held: dict[int, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            journal = tmp_path / "journal.jsonl"
            step = journal.read_bytes().count(b'"train/loss"') if journal.exists() else 0
            ranks = rank_processes(tmp_path)
            if step and len(ranks) == 2:
                held[step] = max(resident_bytes(pid) for pid in ranks)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        steps = train(config).steps
    finally:
        done.set()
        watcher.join()
    assert steps > 2_300
    early = max(held[step] for step in held if 200 < step < 400)
    late = max(held[step] for step in held if 2_100 < step < 2_300)
    assert late - early < 8 << 20, {step: held[step] >> 20 for step in sorted(held)[::25]}


def resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_what_cannot_work_is_refused_before_anything_is_started(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="do not fill one global batch of 4096"):
        train(config_of(store, tmp_path / "run", global_batch_size=4096))
    with pytest.raises(ConfigError, match="warm-up must be within the training"):
        train(config_of(store, tmp_path / "run", schedule={"warmup_steps": 10_000}))
    with pytest.raises(StoreError, match="no store there"):
        train(TrainConfig(store=tmp_path / "absent", run_dir=tmp_path / "run"))
    with pytest.raises(ConfigError, match="cannot be shared out evenly to 3 ranks"):
        config_of(store, tmp_path / "run", hardware={"ranks": 3})
    assert not (tmp_path / "run").exists()


def test_weights_that_are_none_are_refused_before_anything_is_started(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    model = {"name": "resnet18", "pretrained": str(tmp_path / "weights.pth")}
    config = config_of(store, tmp_path / "run", model=model)
    with pytest.raises(ConfigError, match=r"weights\.pth"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_file_of_weights_that_is_missing_is_refused_by_the_check_unless_the_run_goes_on(
    finished: Path, store: Store, tmp_path: Path
) -> None:
    missing = {"model.pretrained": str(tmp_path / "weights.pth")}
    with pytest.raises(ConfigError, match=r"no file of weights .*weights\.pth"):
        prepare(config_of(store, tmp_path / "run", **missing), Opened())
    with pytest.raises(ConfigError, match="no file of weights"):
        prepare(config_of(store, finished, fresh=True, **missing), Opened())
    prepare(config_of(store, finished, **missing), Opened())  # its weights are in its checkpoint
    downloaded = {"name": "resnet18", "pretrained": "imagenet"}
    prepare(config_of(store, tmp_path / "run", model=downloaded), Opened())


def test_gpus_that_are_too_few_for_the_ranks_are_named(
    finished: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 1)
    note = "1 GPU and 2 ranks: training on the CPU; --nproc 1 uses the GPU"
    assert train(config_of(store, tmp_path / "run", epochs=0.5)).notes == (note,)
    assert train(config_of(store, finished)).notes == ()  # finished before: nothing was run
    assert unused_gpus(HardwareConfig(ranks=1), 4, 1) is None
    assert unused_gpus(HardwareConfig(device="cpu"), 4, 1) is None


@pytest.mark.parametrize(
    ("gpus", "given", "changes", "ranks"),
    [
        (0, None, [], 2),
        (0, 1, [], 1),
        (0, None, ["hardware.ranks=1"], 1),
        (0, None, ["micro_batch_size=128"], 1),  # nothing to share out
        (0, None, ["hosts.nodes=2", "hosts.rendezvous=alpha:1"], 1),
        (1, None, [], 1),
        (1, None, ["hardware.device=cpu"], 2),
    ],
)
def test_a_recipe_of_one_rank_takes_two_on_a_cpu_unless_a_number_was_asked_for(
    gpus: int,
    given: int | None,
    changes: list[str],
    ranks: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_gpus(monkeypatch, gpus)
    monkeypatch.setattr(hardware, "threads_each", lambda ranks: 2 // ranks)
    names = ("store", "run_dir", "fresh", "tracking_uri", "nnodes", "node_rank")
    options = dict.fromkeys((*names, "rendezvous", "dask")) | {"recipe": "laptop", "ranks": given}
    config, _ = launched_train_config(options, changes)
    assert config.hardware.ranks == ranks


@pytest.mark.parametrize(
    ("gpus", "ranks", "nodes", "advised"),
    [(0, 4, 1, None), (3, 4, 1, 2), (2, 4, 2, 2), (3, 8, 1, 2), (5, 8, 1, 4), (8, 8, 1, None)],
)
def test_the_advised_number_of_ranks_shares_out_the_micro_batches(
    gpus: int, ranks: int, nodes: int, advised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, gpus)
    hosts = {"nodes": nodes, "rendezvous": "alpha:29400"}
    config = train_config(
        {"hardware.ranks": ranks, "hosts": hosts, "global_batch_size": 256, "micro_batch_size": 32}
    )
    note = unused_gpus(config.hardware, config.shape.micro_batches, nodes)
    if advised is None:
        assert note is None
    else:
        assert note is not None
        assert f"--nproc {advised} uses" in note
        config.updated({"hardware": {"ranks": advised}})


def test_the_best_is_by_the_metric_that_decides_and_an_equal_one_is_no_progress() -> None:
    validations = Validations()
    validations.add({"map_at_3": 0.5, "map_at_3_class_mean": 0.3})
    assert validations == Validations(validations.metrics, 0.5, since_best=0, is_best=True)
    validations.add({"map_at_3": 0.5, "map_at_3_class_mean": 0.2})
    assert validations == Validations(validations.metrics, 0.5, since_best=1, is_best=True)
    validations.add({"map_at_3": 0.4, "map_at_3_class_mean": 0.4})
    assert validations == Validations(validations.metrics, 0.5, since_best=2, is_best=False)
    other = Validations(best=0.3)
    other.add(validations.metrics, "map_at_3_class_mean")
    assert other == Validations(validations.metrics, 0.4, since_best=0, is_best=True)
