"""What a command and all that it starts take: time, processor time, memory by its kind.

In: a command. Out: its `Usage`. A thread reads the proportional set sizes of the whole process
tree from `/proc/PID/smaps_rollup`: a page that several processes share counts once. Anonymous
memory is what processes allocate; file-backed memory is what they map of files, which the kernel
can drop and read again: libraries, a pack, and shared memory.

The kernel walks through all pages to answer, 6 ms a GB (measured, Intel Xeon), and through all
mappings. So the thread waits 20 times the processor time of its last sample, 0.1 s at least. A
peak between two samples is not seen.
"""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from quickdraw_core.system.parent_death import die_with_parent

INTERVAL_SECONDS = 0.1
_PAUSE = 20
"""Times the processor time of a sample is waited after it: it takes 5 % of one core at most."""
_LAST_BYTES = 2_000
"""Of what a failed command said."""


class Sample(NamedTuple):
    """A process tree at one moment.

    time: seconds since 1970. cpu_seconds: of all its processes until then, user and system, those
    that ended and were waited for included. anonymous_bytes, file_bytes: proportional set sizes.
    """

    time: float
    cpu_seconds: float
    anonymous_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Usage:
    """What a command took, or a part of it; the memory is the largest of any sample.

    sampling_seconds: processor time of the samples, which is not in cpu_seconds.
    """

    wall_seconds: float
    cpu_seconds: float
    samples: tuple[Sample, ...] = field(repr=False)
    sampling_seconds: float = 0.0

    @property
    def anonymous_bytes(self) -> int:
        """The most anonymous memory at one moment."""
        return max((sample.anonymous_bytes for sample in self.samples), default=0)

    @property
    def file_bytes(self) -> int:
        """The most file-backed memory at one moment."""
        return max((sample.file_bytes for sample in self.samples), default=0)

    @property
    def peak_bytes(self) -> int:
        """The most memory of both kinds together at one moment."""
        return max((s.anonymous_bytes + s.file_bytes for s in self.samples), default=0)

    def between(self, begin: float, end: float) -> "Usage":
        """The part between two times, seconds since 1970; its processor time is interpolated."""
        inside = [sample for sample in self.samples if begin <= sample.time <= end]
        if not inside:  # shorter than the time between two samples
            middle = (begin + end) / 2
            inside = sorted(self.samples, key=lambda sample: abs(sample.time - middle))[:1]
        return Usage(end - begin, self._cpu_until(end) - self._cpu_until(begin), tuple(inside))

    def _cpu_until(self, moment: float) -> float:
        """Processor seconds until a time, by the samples around it."""
        earlier = Sample(moment, 0.0, 0, 0)
        for sample in self.samples:
            if sample.time > moment:
                span = sample.time - earlier.time
                share = (moment - earlier.time) / span if span else 0.0
                return earlier.cpu_seconds + share * (sample.cpu_seconds - earlier.cpu_seconds)
            earlier = sample
        return earlier.cpu_seconds


Look = Callable[[Sequence[int]], None]
"""Is given the ids of all processes of a tree, again and again."""


def measure(
    command: Sequence[str | Path],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    look: Look | None = None,
) -> Usage:
    """Runs a command to its end, in `folder`; what it prints goes to `log`.

    look: is given the process ids of each sample. Raises `RuntimeError` with the command's last
    words if it fails. The command ends with this process.
    """
    words = [str(word) for word in command]
    with log.open("w+b") if log is not None else tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
        sampler = _Sampler(process.pid, look)
        try:
            # Of a process that waited for its children, the kernel counts theirs in.
            _, status, rusage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            sampler.stop()
        wall_seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            tail = output.read().decode(errors="replace")[-_LAST_BYTES:]
            raise RuntimeError(f"{' '.join(words)} exited with {process.returncode}:\n{tail}")
    return Usage(
        wall_seconds, rusage.ru_utime + rusage.ru_stime, tuple(sampler.samples), sampler.seconds
    )


class _Sampler:
    """Samples a process and its descendants from a thread, until it is stopped."""

    def __init__(self, pid: int, look: Look | None) -> None:
        self.samples: list[Sample] = []
        self.seconds = 0.0
        self._root, self._look = psutil.Process(pid), look
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample_all, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no more samples."""
        self._stopped.set()
        self._thread.join()

    def _sample_all(self) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            begun = time.thread_time()
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            if (sample := sample_of(family)) is not None:
                self.samples.append(sample)
            took = time.thread_time() - begun
            if self._look is not None:
                self._look([process.pid for process in family])
            self.seconds += time.thread_time() - begun
            pause = max(INTERVAL_SECONDS, _PAUSE * took)


def sample_of(family: Iterable[psutil.Process]) -> Sample | None:
    """What processes have now; None if none of them has any memory, as at their end."""
    now, cpu_seconds, anonymous, file = time.time(), 0.0, 0, 0
    for process in family:
        sizes = memory_of(process.pid)
        anonymous += sizes["Pss_Anon"]
        file += sizes["Pss_File"] + sizes["Pss_Shmem"]
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_seconds += times.user + times.system + times.children_user + times.children_system
    return Sample(now, cpu_seconds, anonymous, file) if anonymous + file else None


def memory_of(pid: int) -> dict[str, int]:
    """Proportional set sizes of a process by their kind, bytes; 0 of one that has ended."""
    sizes = dict.fromkeys(("Pss_Anon", "Pss_File", "Pss_Shmem"), 0)
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in sizes:
                sizes[name] = int(value.split()[0]) << 10
    return sizes


@dataclass(frozen=True)
class Mapped:
    """What one process has of the files of a folder, bytes.

    resident_bytes: the pages that it uses; proportional_bytes: each of them divided by the number
    of processes that use it; anonymous_bytes: what it allocated itself, of whatever kind.
    """

    resident_bytes: int
    proportional_bytes: int
    anonymous_bytes: int


class MappedFiles:
    """Watches which pages of a folder's files the processes of a tree have.

    `processes` is what was found where most pages were in use: those that map any of the files.
    """

    SECONDS = 2.0
    """Between two looks: each lists all mappings."""

    def __init__(self, folder: Path) -> None:
        self.processes: list[Mapped] = []
        self._folder, self._next = str(folder.resolve()) + "/", 0.0

    def __call__(self, pids: Sequence[int]) -> None:
        if time.monotonic() < self._next:
            return
        begun = time.thread_time()
        found = [mapped for mapped in map(self._mapped, pids) if mapped.resident_bytes]
        # Of equal ones that with the least proportional memory: in another, one process was read
        # before the other had mapped what they share, or after it had ended.
        if _most_shared(found) > _most_shared(self.processes):
            self.processes = found
        took = time.thread_time() - begun
        self._next = time.monotonic() + max(self.SECONDS, _PAUSE * took)

    def _mapped(self, pid: int) -> Mapped:
        resident = proportional = 0
        is_ours = False
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
                name, _, value = line.partition(":")
                if "-" in name.split(" ")[0]:  # the head of a mapping: its addresses and its file
                    is_ours = self._folder in line
                elif is_ours and name == "Rss":
                    resident += int(value.split()[0]) << 10
                elif is_ours and name == "Pss":
                    proportional += int(value.split()[0]) << 10
        return Mapped(resident, proportional, memory_of(pid)["Pss_Anon"] if resident else 0)


def _most_shared(processes: Sequence[Mapped]) -> tuple[int, int]:
    """Grows with what processes have of the files, and with how much of that they share."""
    resident = sum(process.resident_bytes for process in processes)
    return resident, -sum(process.proportional_bytes for process in processes)
