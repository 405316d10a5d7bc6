"""Two hosts on one machine: network namespaces with addresses of their own and a cable between."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Host:
    """A network namespace. Of the file system it sees what all see."""

    name: str
    address: str
    cable: str

    def command(self, *words: str) -> list[str]:
        """A command that runs on this host; its process has the id of the one started."""
        return ["ip", "netns", "exec", self.name, *words]


@dataclass(frozen=True)
class Hosts:
    """Two hosts and the cable between them."""

    first: Host
    second: Host

    def cut(self) -> None:
        """Pulls the cable: no packet gets through, and no connection is told."""
        _ip("-n", self.second.name, "link", "set", self.second.cable, "down")

    def mend(self) -> None:
        """Puts the cable back."""
        _ip("-n", self.second.name, "link", "set", self.second.cable, "up")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Sets up two hosts, and takes them away again. Skips the test where that cannot be done."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and ip (package iproute2)")
    _remove_left()
    made = [Host(f"qd{os.getpid()}-{n}", f"10.77.0.{n}", f"qd{n}") for n in (1, 2)]
    first, second = made
    try:
        for host in made:
            done = _ip("netns", "add", host.name, check=False)
            if done.returncode:
                pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
        peer = ("peer", "name", second.cable, "netns", second.name)
        _ip("-n", first.name, "link", "add", first.cable, "type", "veth", *peer)
        for host in made:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.cable)
            for device in ("lo", host.cable):
                _ip("-n", host.name, "link", "set", device, "up")
        yield Hosts(first, second)
    finally:
        for host in made:  # the cable goes with them
            _ip("netns", "delete", host.name, check=False)


def _remove_left() -> None:
    """Hosts of tests that were killed."""
    for name, process in re.findall(
        r"^(qd(\d+)-\d)\b", _ip("netns", "list", check=False).stdout, re.M
    ):
        if not Path("/proc", process).exists():
            _ip("netns", "delete", name, check=False)


def _ip(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)
