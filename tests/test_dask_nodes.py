"""What a training asks of a Dask cluster before its nodes are started."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trainings import train_config

from quickdraw_core.cluster.workers import Survey, Worker
from quickdraw_core.errors import ClusterError, ConfigError
from quickdraw_core.launching.nodes import dask_nodes, node
from quickdraw_core.launching.nodes.attempt import read_attempt, write_attempt
from quickdraw_core.launching.processes import STANDALONE

VARIABLES = {
    "GLOO_LOG_LEVEL": "INFO",
    "GLOO_SOCKET_IFNAME": "eth0",
    "NCCL_SOCKET_IFNAME": "ib0",
    "NCCL_IB_DISABLE": "1",
    "OMP_NUM_THREADS": "3",
    "HOME": "/home/a",
}


def test_a_run_without_a_checkpoint_needs_all_hosts_whatever_was_tried_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt may end while its hosts meet."""
    found = Survey([Worker(f"tcp://{n}:1", n, n) for n in ("a", "b")], [], {})

    def wait_for(*asked: Any) -> Survey:
        assert asked[2](found, 60)  # is_enough
        return found

    monkeypatch.setattr(dask_nodes, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(dask_nodes, "wait_for", wait_for)
    hosts = {"dask": "tcp://a:8786", "nodes": 3}
    hardware = {"ranks": 1, "device": "cpu"}
    values: dict[str, Any] = {"store": "store", "global_batch_size": 48, "micro_batch_size": 8}
    config = train_config(values, hosts=hosts, hardware=hardware)

    def nodes() -> int:
        with dask_nodes.nodes_of(config, tmp_path, STANDALONE, shared=False) as (changed, _):
            return changed.hosts.nodes

    (tmp_path / "hosts").mkdir()
    write_attempt(tmp_path, "", ["a", "b", "c"], "cpu")
    with pytest.raises(ConfigError, match=r"3 hosts are needed, .* has 2 that can train"):
        nodes()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000004.pt").touch()
    (tmp_path / "checkpoints" / "last").write_text("step-00000004.pt\n")
    assert nodes() == 2


def test_an_attempt_is_over_that_could_not_give_out_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def worker_processes(*_: object) -> Iterator[None]:
        assert (read_attempt(tmp_path) or {})["attempt"]
        raise ClusterError("lost")
        yield

    monkeypatch.setattr(dask_nodes.DaskNodes, "_jobs", lambda *_: [])
    monkeypatch.setattr(dask_nodes, "worker_processes", worker_processes)
    (tmp_path / "hosts").mkdir()
    config = train_config({"store": "store"}, hosts={}, hardware={"ranks": 1, "device": "cpu"})
    run: Any = SimpleNamespace(path=tmp_path, config=config)
    nodes = dask_nodes.DaskNodes(None, (), {})
    with pytest.raises(ClusterError), nodes.launched(run, 0, {}, BytesIO()):
        pass
    assert (read_attempt(tmp_path) or {})["attempt"] == ""


def test_nodes_get_what_ranks_talk_by_but_not_the_name_of_an_interface() -> None:
    passed = dask_nodes._passed_on(VARIABLES)
    assert passed == {"GLOO_LOG_LEVEL": "INFO", "NCCL_IB_DISABLE": "1", "OMP_NUM_THREADS": "3"}


def test_what_a_worker_has_itself_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {"NCCL_IB_DISABLE": "1", "NCCL_DEBUG": "INFO"}
    job = node.Job("run", "store", 0, "attempt", "digest", defaults=defaults)
    monkeypatch.setattr(os, "environ", os.environ | {"NCCL_IB_DISABLE": "0"})
    monkeypatch.setattr(sys, "argv", ["node", job.words()[-1]])
    monkeypatch.setattr(node, "work", lambda given: int(given != job))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert node.main() == 0
    assert os.environ["NCCL_IB_DISABLE"] == "0"
    assert os.environ["NCCL_DEBUG"] == "INFO"
