"""A disk of a few megabytes, for what happens when it is full: tmpfs in a mount namespace.

No root is needed where the system lets users make namespaces; elsewhere the tests are skipped.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import environment_of
from forkserver import real_python

BALLAST = "ballast"


@dataclass(frozen=True)
class SmallDisk:
    """inside: where commands see it. outside: the same folder for this process."""

    holder: int
    inside: Path
    outside: Path

    def fill(self, leaving_bytes: int) -> None:
        """Takes all room but so much."""
        status = os.statvfs(self.outside)
        room = status.f_bavail * status.f_frsize - leaving_bytes
        with (self.outside / BALLAST).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room)

    def make_room(self) -> None:
        """Gives back what `fill` took."""
        (self.outside / BALLAST).unlink()

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """A process that sees the disk, with the folder above it as its working folder."""
        enter = ["nsenter", f"--target={self.holder}", "--user", "--mount"]
        return subprocess.run(
            [*enter, "--preserve-credentials", *map(str, words)],
            cwd=self.inside.parent,
            env=environment_of(self.inside.parent),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def quickdraw(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """`quickdraw …`, as a process of its own."""
        folder = ["sh", "-c", 'cd "$0" && exec "$@"', self.inside.parent]
        return self.run(*folder, real_python(), "-m", "quickdraw_core.cli", *words, "--quiet")


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[SmallDisk]:
    """A disk in `folder`/disk, there until the block ends."""
    mounted = folder / "disk"
    mounted.mkdir()
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("unshare and nsenter are not here")
    mount = f'mount -t tmpfs -o size={size_mb}m tmpfs "$0" && echo mounted && exec cat'
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, mounted],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip("this machine lets nobody mount in a namespace of their own")
        yield SmallDisk(holder.pid, mounted, Path(f"/proc/{holder.pid}/root{mounted}"))
    finally:
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()
