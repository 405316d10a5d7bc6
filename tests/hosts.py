"""Hosts on one machine: network namespaces with addresses of their own, and cables between: from
one to the other, or from each to a switch.
"""

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


@dataclass(frozen=True)
class Switch:
    """Hosts whose cables all lead to one switch."""

    name: str
    hosts: tuple[Host, ...]

    def cut(self, host: Host) -> None:
        """Pulls a host's cable out of the switch: it is told as little as anybody."""
        _ip("-n", self.name, "link", "set", host.cable, "down")

    def mend(self, host: Host) -> None:
        """Puts it back."""
        _ip("-n", self.name, "link", "set", host.cable, "up")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Sets up two hosts, and takes them away again. Skips the test where that cannot be done."""
    made = [Host(f"qd{os.getpid()}-{n}", f"10.77.0.{n}", f"qd{n}") for n in (1, 2)]
    first, second = made
    with _namespaces(first.name, second.name):
        peer = ("peer", "name", second.cable, "netns", second.name)
        _ip("-n", first.name, "link", "add", first.cable, "type", "veth", *peer)
        for host in made:
            _set_up(host)
        yield Hosts(first, second)


@contextmanager
def hosts_on_a_switch(count: int) -> Iterator[Switch]:
    """The same with several hosts."""
    numbers = range(1, count + 1)
    made = tuple(Host(f"qd{os.getpid()}-{n}", f"10.77.0.{n}", f"qd{n}") for n in numbers)
    switch, bridge = f"qd{os.getpid()}-0", "qd"
    with _namespaces(switch, *(host.name for host in made)):
        _ip("-n", switch, "link", "add", bridge, "type", "bridge")
        _ip("-n", switch, "link", "set", bridge, "up")
        for host in made:
            peer = ("peer", "name", host.cable, "netns", host.name)
            _ip("-n", switch, "link", "add", host.cable, "type", "veth", *peer)
            _ip("-n", switch, "link", "set", host.cable, "master", bridge, "up")
            _set_up(host)
        yield Switch(switch, made)


@contextmanager
def _namespaces(*names: str) -> Iterator[None]:
    """Network namespaces for a block; the cables within go with them."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and ip (package iproute2)")
    _remove_left()
    try:
        for name in names:
            done = _ip("netns", "add", name, check=False)
            if done.returncode:
                pytest.skip(f"no network namespace can be made here: {done.stderr.strip()}")
        yield
    finally:
        for name in names:
            _ip("netns", "delete", name, check=False)


def _set_up(host: Host) -> None:
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.cable)
    for device in ("lo", host.cable):
        _ip("-n", host.name, "link", "set", device, "up")


def _remove_left() -> None:
    """Hosts of tests that were killed."""
    for name, process in re.findall(
        r"^(qd(\d+)-\d)\b", _ip("netns", "list", check=False).stdout, re.M
    ):
        if not Path("/proc", process).exists():
            _ip("netns", "delete", name, check=False)


def _ip(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)
