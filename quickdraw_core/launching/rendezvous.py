"""How the hosts of one training agree on an attempt, through the run folder that all of them see.

Every attempt has an id of its own, drawn by chance, and torch's launchers meet under it. Two
attempts must never share one: to a launcher still at work, another that comes to the same id is a
host that joins, for which it starts its ranks again.

    RUN/hosts/host-<n>.json   "host n waits": a token drawn for this wait, a beat, an address
    RUN/hosts/attempt.json    host 0's word: an id, for which tokens, and where the run goes on

Host n beats until host 0's word names its token; host 0 waits until it has seen all others beat,
and then draws the id. Hence:

- The hosts may be started in any order.
- The word of an earlier attempt names other tokens: nobody follows it.
- A host that was killed while it waited beats no more: host 0 does not count it.
- A host that failed alone and is started again waits for the next attempt. It cannot come into
  the one that is still at work on the others, which ends by its time-out.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from quickdraw_core.errors import ConfigError, TrainingError
from quickdraw_core.system.files import write_atomic
from quickdraw_core.training.config import HostsConfig

HOSTS_NAME = "hosts"
_WORD = "attempt.json"
_BEAT_SECONDS = 1.0
_ALIVE_SECONDS = 30.0
"""Who was not seen to beat for so long does not wait any more. Caches of NFS are that slow."""


@dataclass(frozen=True)
class Attempt:
    """Host 0's word. id: of torch's rendezvous; empty where nothing is left to train. run: the
    key of the run. step: of the checkpoint from which all go on. tokens: by the number of the
    host, for whom this is.
    """

    id: str
    run: str
    step: int
    tokens: Mapping[str, str]


def gather_hosts(
    run_dir: Path, hosts: HostsConfig, run: str, step: int, stopping: threading.Event | None
) -> tuple[Attempt, str]:
    """Host 0: waits for all others, and begins an attempt. Returns it, and this host's address
    as seen by the others.

    Raises `TrainingError` where one has not come within `hosts.wait_seconds`.
    """
    seen: dict[int, dict[str, Any] | None] = {}
    beaten: dict[int, float] = {}
    deadline = time.monotonic() + hosts.wait_seconds
    while True:
        now = time.monotonic()
        for number in range(1, hosts.nodes):
            found = _read(_place(run_dir, number))
            # The first look does not say whether who wrote it is still there.
            if found is not None and number in seen and found != seen[number]:
                beaten[number] = now
            seen[number] = found
        absent = [n for n in seen if seen[n] is None or now - beaten.get(n, -1e9) > _ALIVE_SECONDS]
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
    waiting = {number: found for number, found in seen.items() if found is not None}
    attempt = Attempt(
        secrets.token_hex(8), run, step, {str(n): str(f["token"]) for n, f in waiting.items()}
    )
    _say(run_dir, attempt)
    return attempt, address_towards(str(waiting[1]["address"]))


def release_hosts(run_dir: Path, hosts: HostsConfig, run: str, step: int) -> None:
    """Host 0, where nothing is left to train: lets those go that wait now."""
    found = {n: _read(_place(run_dir, n)) for n in range(1, hosts.nodes)}
    tokens = {str(n): str(f["token"]) for n, f in found.items() if f is not None}
    if tokens:
        _say(run_dir, Attempt("", run, step, tokens))


def join_attempt(
    run_dir: Path, hosts: HostsConfig, stopping: threading.Event | None
) -> tuple[Attempt, str]:
    """Any other host: waits for host 0's next attempt. Returns it, and this host's address.

    Raises `TrainingError` where none has begun within `hosts.wait_seconds`.
    """
    own, token = _place(run_dir, hosts.node_rank), secrets.token_hex(8)
    address = address_towards(str(hosts.rendezvous))
    deadline = time.monotonic() + hosts.wait_seconds
    beat, next_beat = 0, 0.0
    try:
        while True:
            word = _read(run_dir / HOSTS_NAME / _WORD)
            if word is not None and word["tokens"].get(str(hosts.node_rank)) == token:
                return Attempt(**word), address
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
        family, kind, _, _, there = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(there)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigError(
            f"no way from here to {host}: {error.strerror}; give --rendezvous the name or address "
            "of host 0 in a network that all hosts are in"
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


def _place(run_dir: Path, number: int) -> Path:
    return run_dir / HOSTS_NAME / f"host-{number}.json"


def _say(run_dir: Path, attempt: Attempt) -> None:
    write_atomic(run_dir / HOSTS_NAME / _WORD, json.dumps(asdict(attempt)) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    """A file of another host; None where there is none, or none that can be read now."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _pause(stopping: threading.Event | None) -> None:
    if stopping is not None and stopping.is_set():
        raise KeyboardInterrupt
    time.sleep(0.2)
