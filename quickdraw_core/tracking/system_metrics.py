"""What the machine does while it trains: CPU, memory, disk, network and GPUs, in the journal.

The names are those of MLflow's own monitors, whose tab "System metrics" in the UI shows all that
begins with `system/`. Those monitors ask the server after every sample and end when it is away;
this one only appends to the journal, and the training process need not load MLflow.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from quickdraw_core.tracking.journal import Journal, NoJournal

PREFIX = "system/"
_MEGABYTE = 1e6
_MICRO = 1e6
_POWERCAP = Path("/sys/class/powercap")


@contextmanager
def system_metrics(journal: Journal | NoJournal, every_seconds: float = 10.0) -> Iterator[None]:
    """Samples the machine as long as the block lasts, and once at its end.

    Utilisation and traffic are those since the sample before. Steps count samples, and go on
    where the journal's last attempt ended. Samples cost about a millisecond; if the machine has
    none, that is reported once.
    """
    ending = threading.Event()
    thread = threading.Thread(
        target=_run, args=(journal, every_seconds, ending), name="quickdraw-system", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _run(journal: Journal | NoJournal, every_seconds: float, ending: threading.Event) -> None:
    try:
        sample = sampler()
        step = journal.next_step(PREFIX)
        while True:
            ended = ending.wait(every_seconds)
            journal.write(step, {PREFIX + name: value for name, value in sample().items()})
            step += 1
            if ended:
                return
    except Exception as error:  # noqa: BLE001 — a sensor never stops training
        sys.stderr.write(f"no system metrics: {type(error).__name__}: {error}\n")


def sampler() -> Callable[[], dict[str, float]]:
    """A function that gives the machine's state; network traffic counts from now on."""
    process, gpus, cpu_power = psutil.Process(), _gpus(), cpu_power_meter()
    psutil.cpu_percent()  # the first call only sets the beginning
    network = psutil.net_io_counters()

    def sample() -> dict[str, float]:
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(os.sep)
        traffic = psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_available_megabytes": disk.free / _MEGABYTE,
            "network_receive_megabytes": (traffic.bytes_recv - network.bytes_recv) / _MEGABYTE,
            "network_transmit_megabytes": (traffic.bytes_sent - network.bytes_sent) / _MEGABYTE,
            "process_resident_megabytes": process.memory_info().rss / _MEGABYTE,
        }
        watts = cpu_power()
        if watts is not None:
            values["cpu_power_usage_watts"] = watts
        for number, gpu in enumerate(gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in gpu().items()}
        return {name: round(value, 3) for name, value in values.items()}

    return sample


def cpu_power_meter(
    powercap: Path = _POWERCAP, clock: Callable[[], float] = time.monotonic
) -> Callable[[], float | None]:
    """A function that gives the mean power of all processors since its last call, watts; None
    where Linux does not say it (RAPL), or not to this user.
    """
    # Not their parts, `intel-rapl:0:0`, nor `psys`, which counts the processors again.
    counters = [
        zone
        for zone in sorted(powercap.glob("intel-rapl:*"))
        if _text_of(zone / "name").startswith("package")
    ]

    def joules(zone: Path, file: str) -> float:
        return int((zone / file).read_text("ascii")) / _MICRO

    def read() -> tuple[float, list[float]] | None:
        try:
            return clock(), [joules(zone, "energy_uj") for zone in counters]
        except (OSError, ValueError):
            return None

    last = read() if counters else None

    def watts() -> float | None:
        nonlocal last
        now = read() if last is not None else None
        if last is None or now is None or now[0] <= last[0]:
            return None
        used = 0.0
        for zone, before, after in zip(counters, last[1], now[1], strict=True):
            # A counter begins again at 0 when it has reached its range.
            around = joules(zone, "max_energy_range_uj") if after < before else 0.0
            used += after - before + around
        seconds = now[0] - last[0]
        last = now
        return used / seconds

    return watts


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _gpus() -> list[Callable[[], dict[str, float]]]:
    """A reader for each NVIDIA GPU; none without `nvidia-ml-py`."""
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)]
    except pynvml.NVMLError:
        return []


def _gpu(pynvml: Any, handle: Any) -> Callable[[], dict[str, float]]:
    def read() -> dict[str, float]:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        values = {
            "memory_usage_megabytes": memory.used / _MEGABYTE,
            "memory_usage_percentage": memory.used / memory.total * 100,
        }
        try:  # not every GPU has these
            values["utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            values["power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
            limit = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
            values["power_usage_percentage"] = values["power_usage_watts"] / limit * 100
        except pynvml.NVMLError:
            pass
        return values

    return read
