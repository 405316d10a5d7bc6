"""Finding the processes of a run, so that tests can kill them or see that they are gone."""

from pathlib import Path


def rank_processes(run_dir: Path) -> list[int]:
    """Process ids of the ranks of this very run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        launcher = b"torch.distributed.run" in words
        if b"quickdraw_core.training.rank" in words and str(run_dir).encode() in words:
            found += [] if launcher else [int(folder.name)]
    return sorted(found)
