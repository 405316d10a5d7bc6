"""System metrics: MLflow's own names, in the journal, with steps that go on."""

import time
from pathlib import Path

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from quickdraw_core.tracking.journal import JOURNAL_NAME, Journal, NoJournal, follow
from quickdraw_core.tracking.system_metrics import PREFIX, sampler, system_metrics


def test_the_names_are_those_of_mlflows_own_monitors() -> None:
    theirs: dict[str, float] = {}
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        theirs |= monitor.aggregate_metrics()
    ours = sampler()()
    assert set(theirs) <= set(ours)
    for name in ("system_memory_usage_megabytes", "disk_usage_percentage"):
        assert abs(ours[name] - theirs[name]) < 0.2 * theirs[name]
    assert ours["process_resident_megabytes"] > 1


def test_samples_go_to_the_journal_and_their_steps_go_on(tmp_path: Path) -> None:
    for samples in (3, 6):
        with Journal(tmp_path) as journal:
            journal.write(1_000 + samples, {"train/loss": 1.0})
            with system_metrics(journal, every_seconds=0.01):
                deadline = time.monotonic() + 300
                while journal.next_step(PREFIX) < samples:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
    records, _ = follow(tmp_path / JOURNAL_NAME, 0)
    steps = [r["step"] for r in records if "system/cpu_utilization_percentage" in r["metrics"]]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 6


def test_a_run_shorter_than_the_interval_has_one_sample_and_does_not_wait(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, system_metrics(journal, every_seconds=3_600):
        pass
    records, _ = follow(tmp_path / JOURNAL_NAME, 0)
    assert [record["step"] for record in records] == [0]


def test_ranks_without_a_journal_take_no_harm() -> None:
    with system_metrics(NoJournal(), every_seconds=0.01):
        time.sleep(0.03)
