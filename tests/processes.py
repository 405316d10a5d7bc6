"""Finding the processes of a run, so that tests can kill them or see that they are gone."""

import os
from pathlib import Path

TRAIN = (
    "import sys; from quickdraw_core.training.config import TrainConfig; "
    "from quickdraw_core.launching.train import train; "
    "train(TrainConfig.model_validate_json(sys.argv[1]))"
)
"""Trains as a process of its own, on the configuration given as JSON."""

PERFORM = (
    "import sys; from quickdraw_core.errors import QuickdrawError; "
    "from quickdraw_core.launching.train import TRAIN_STAGE; "
    "from quickdraw_core.stage import perform; "
    "from quickdraw_core.training.config import TrainConfig\n"
    "try: perform(TRAIN_STAGE, TrainConfig.model_validate_json(sys.argv[1]))\n"
    "except QuickdrawError as error:\n"
    "    print(error, file=sys.stderr); sys.exit(error.exit_code)\n"
)
"""The same, with the retry that the command has, and its exit code."""

INGEST = (
    "import sys; from quickdraw_core.errors import QuickdrawError; "
    "from quickdraw_core.ingest.config import IngestConfig; "
    "from quickdraw_core.ingest.ingest import ingest\n"
    "for text in sys.argv[1:]:\n"
    "    try: print(ingest(IngestConfig.model_validate_json(text)).windows_reused, flush=True)\n"
    "    except QuickdrawError as error: print(type(error).__name__, error, flush=True)\n"
)
"""Ingests as a process of its own, on one configuration after the other, each given as JSON.
Prints a line for each: how many windows were there already, or its error.
"""


def rank_processes(run_dir: Path) -> list[int]:
    """Process ids of the ranks of this very run: the launcher's children that print to its log,
    as it does.
    """
    log, parents = str(run_dir.resolve() / "log.txt"), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str((folder / "fd" / "1").readlink()) == log:
                stat = (folder / "stat").read_text().rpartition(") ")[2].split()
                parents[int(folder.name)] = int(stat[1])
        except OSError:
            continue
    launchers = {process for process, parent in parents.items() if parent not in parents}
    return sorted(process for process, parent in parents.items() if parent in launchers)


def processes_of(run_dir: Path) -> list[int]:
    """Process ids of all that trains in a folder, whoever started it: nodes, launchers, ranks."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(") ")[2].split()[0]
        except OSError:
            continue
        modules = (b"quickdraw_core.training.preloaded_launcher", b"launching.nodes.node")
        of_run = str(run_dir).encode() in words and any(name in words for name in modules)
        if of_run and state != "Z":
            found.append(int(folder.name))
    return sorted(found)


def launcher_process(run_dir: Path) -> int | None:
    """Process id of torch's launcher of this very run."""
    ranks = rank_processes(run_dir)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        of_this = (
            b"quickdraw_core.training.preloaded_launcher" in words
            and str(run_dir).encode() in words
        )
        if of_this and int(folder.name) not in ranks:
            return int(folder.name)
    return None


def children_of(word: str, process: int | None = None) -> list[int]:
    """Ids of the children of a process, or of this one, whose command has a word, such as the
    name of a module.
    """
    found, process = [], process or os.getpid()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
        except OSError:
            continue
        if word.encode() in words and int(parent) == process:
            found.append(int(folder.name))
    return sorted(found)
