"""How the hosts of one training agree on an attempt, through the run folder that all of them see.

Every attempt has a random id of its own, under which torch's launchers meet. Two attempts must
never share one: a launcher still at work takes another that comes to the same id for a host that
joins, for which it starts its ranks again.

    RUN/hosts/host-<n>.json   "host n waits": a token of this wait, a heartbeat, an address
    RUN/hosts/attempt.json    host 0's attempt: an id, for which tokens, where the run goes on, and
                              at which address and port

Host n sends heartbeats until an attempt names its token. Host 0 waits for a heartbeat of each
other host, and then begins an attempt. Hence:

- The hosts may be started in any order.
- An earlier attempt names other tokens: nobody joins it.
- A host that was killed while it waited sends no heartbeat: host 0 does not count it.
- A host that failed alone and is started again waits for the next attempt. It cannot join the
  one that is still at work on the others, which ends by its time-out.

No clock is compared with that of another host, and a folder that shows a change late (NFS) costs
that time alone.
"""

import ipaddress
import json
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from quickdraw_core.errors import ConfigError, TrainingError
from quickdraw_core.system.files import write_atomic
from quickdraw_core.training.config import HostsConfig

HOSTS_NAME = "hosts"
_ATTEMPT_NAME = "attempt.json"
_BEAT_SECONDS = 1.0
_ALIVE_SECONDS = 30.0
"""A host without a heartbeat for so long does not wait any more. Caches of NFS are that slow."""
_PORTS = range(20_000, 30_000)


@dataclass(frozen=True)
class Attempt:
    """What host 0 begins. id: of torch's rendezvous; empty if nothing is left to train. run: the
    key of the run. step: of the checkpoint from which all go on. tokens: of the hosts that it is
    for, by their number. endpoint: host:port at which host 0 waits.
    """

    id: str
    run: str
    step: int
    tokens: Mapping[str, str]
    endpoint: str = ""


@dataclass(frozen=True)
class Rendezvous:
    """Where the launchers of several hosts meet. attempt: an id that no other attempt has.
    address: of this host, in the network that it shares with the others. endpoint: host:port of
    host 0.
    """

    attempt: str
    address: str
    endpoint: str


def gather_hosts(
    run_dir: Path, hosts: HostsConfig, run: str, step: int, stopping: threading.Event | None
) -> tuple[Attempt, str]:
    """Host 0: waits for all others, and begins an attempt. Returns it, and the address at which
    the others reach this host.

    Raises `TrainingError` if one has not come within `hosts.wait_seconds`.
    """
    waiting: dict[int, dict[str, Any] | None] = {}
    last_beats: dict[int, float] = {}
    deadline = time.monotonic() + hosts.wait_seconds
    while True:
        now = time.monotonic()
        for number in range(1, hosts.nodes):
            value = _read(_host_path(run_dir, number))
            # What was there at first may be of a host that was killed.
            if value is not None and number in waiting and value != waiting[number]:
                last_beats[number] = now
            waiting[number] = value
        alive = {n for n, beat in last_beats.items() if now - beat <= _ALIVE_SECONDS}
        absent = [n for n, value in waiting.items() if value is None or n not in alive]
        if not absent:
            break
        if now > deadline:
            names = ", ".join(str(number) for number in absent)
            raise TrainingError(
                f"host {names} of {hosts.nodes} has not come to {run_dir} for "
                f"{hosts.wait_seconds} s; give the same command there too, with its --node-rank "
                "and this folder, which all hosts must share"
            )
        _pause(stopping)
    other = waiting[1]
    assert other is not None
    address = address_towards(str(other["address"]))
    endpoint = str(hosts.rendezvous)
    if _split(endpoint)[1] == 0:
        port = free_port()
        endpoint = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return _begin(run_dir, secrets.token_hex(8), run, step, waiting, endpoint), address


def release_hosts(run_dir: Path, hosts: HostsConfig, run: str, step: int) -> None:
    """Host 0, if nothing is left to train: tells the hosts that wait now to stop waiting."""
    waiting = {n: _read(_host_path(run_dir, n)) for n in range(1, hosts.nodes)}
    if any(waiting.values()):
        _begin(run_dir, "", run, step, waiting)


def join_attempt(
    run_dir: Path, hosts: HostsConfig, stopping: threading.Event | None
) -> tuple[Attempt, str]:
    """Any other host: waits for host 0's next attempt. Returns it, and this host's address.

    Raises `TrainingError` if none has begun within `hosts.wait_seconds`.
    """
    own, token = _host_path(run_dir, hosts.node_rank), secrets.token_hex(8)
    address = address_towards(str(hosts.rendezvous))
    deadline = time.monotonic() + hosts.wait_seconds
    beat, next_beat = 0, 0.0
    try:
        while True:
            attempt = _read(run_dir / HOSTS_NAME / _ATTEMPT_NAME)
            if attempt is not None and attempt["tokens"].get(str(hosts.node_rank)) == token:
                return Attempt(**attempt), address
            now = time.monotonic()
            if now > deadline:
                raise TrainingError(
                    f"host 0 has begun no attempt in {run_dir} for {hosts.wait_seconds} s; give "
                    "the same command there too, with --node-rank 0 and this folder, which all "
                    "hosts must share"
                )
            if now >= next_beat:
                text = json.dumps({"token": token, "beat": beat, "address": address})
                write_atomic(own, text + "\n", sync=False)
                beat, next_beat = beat + 1, now + _BEAT_SECONDS
            _pause(stopping)
    finally:
        own.unlink(missing_ok=True)


def address_towards(endpoint: str) -> str:
    """The address of this host from which it reaches another one, `host` or `host:port`.

    The name of a host often leads to its loopback (Debian's 127.0.1.1), where nobody else finds
    it. Asks the routing table and sends nothing. Raises `ConfigError`: no such host, no way.
    """
    host, port = _split(endpoint)
    try:
        family, kind, _, _, there = socket.getaddrinfo(host, port or 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(there)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigError(
            f"this host cannot reach {host}: {error.strerror}; give --rendezvous the name or "
            "address of host 0 in a network that all hosts are in"
        ) from error


def interface_of(address: str) -> str | None:
    """The name of the network interface with an address: what gloo asks for."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            return str(name)
    return None


def _split(endpoint: str) -> tuple[str, int]:
    try:
        ipaddress.ip_address(endpoint)
    except ValueError:
        host, _, port = endpoint.rpartition(":")
        return (host.strip("[]"), int(port)) if port.isdigit() else (endpoint, 9)
    return endpoint, 9


def free_port() -> int:
    """A port on which nobody listens, by IPv4 or IPv6. Not one of those that the kernel gives to
    connections (32768 and more by default): some seconds pass until it is used. A random first
    one, so that two runs that begin at once on one host do not choose the same.
    """
    both: dict[str, Any] = {}
    if socket.has_dualstack_ipv6():
        both = {"family": socket.AF_INET6, "dualstack_ipv6": True}
    first = secrets.randbelow(len(_PORTS))
    for port in chain(_PORTS[first:], _PORTS[:first]):
        with suppress(OSError), socket.create_server(("", port), **both):
            return port
    raise TrainingError(
        f"no port from {_PORTS[0]} to {_PORTS[-1]} is free; give --rendezvous one that is"
    )


def _host_path(run_dir: Path, number: int) -> Path:
    return run_dir / HOSTS_NAME / f"host-{number}.json"


def _begin(
    run_dir: Path,
    id_: str,
    run: str,
    step: int,
    waiting: Mapping[int, dict[str, Any] | None],
    endpoint: str = "",
) -> Attempt:
    tokens = {str(n): str(value["token"]) for n, value in waiting.items() if value is not None}
    attempt = Attempt(id_, run, step, tokens, endpoint)
    write_atomic(run_dir / HOSTS_NAME / _ATTEMPT_NAME, json.dumps(asdict(attempt)) + "\n")
    return attempt


def _read(path: Path) -> dict[str, Any] | None:
    """A file of another host; None if it is missing or cannot be read now."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _pause(stopping: threading.Event | None) -> None:
    if stopping is not None and stopping.is_set():
        raise KeyboardInterrupt
    time.sleep(0.2)
