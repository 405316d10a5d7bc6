"""How torch's launcher is called: its command line and its environment.

Its own restarts stay off: with gloo they hang.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from quickdraw_core import training
from quickdraw_core.launching.rendezvous import Rendezvous, interface_of
from quickdraw_core.system.child_environment import child_environment
from quickdraw_core.system.threads import share_cores
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

_RENDEZVOUS_SECONDS = 60
"""The least time-out of the launchers' rendezvous: they load torch and more first."""
_OTHERS = {
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
}
_OTHERS_PREFIXES = ("PET_", "TORCHELASTIC_")
"""Variables that torch's launcher reads in place of options (PET_), or sets for its own ranks. If
this command is itself one of those, they are not meant for the ranks of this host."""


def launcher_command(run: RunFolder, errors: Path, rendezvous: Rendezvous | None) -> list[str]:
    """torch's launcher, for one host or as one of several."""
    config, hosts = run.config, run.config.hosts
    forks = sys.platform.startswith("linux")
    launcher = "quickdraw_core.training.preloaded_launcher" if forks else "torch.distributed.run"
    command = [sys.executable, "-m", launcher]
    if rendezvous is None:
        command += ["--standalone"]
    else:
        # Numbered by the rendezvous itself: any of the ranks writes to the folder that all share.
        command += ["--nnodes", str(hosts.nodes), "--rdzv-id", rendezvous.attempt]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", rendezvous.endpoint]
        # What torch would find out by the host's name, which is often that of its loopback.
        command += ["--local-addr", rendezvous.address]
        seconds = max(config.hardware.timeout_seconds, _RENDEZVOUS_SECONDS)
        conf = {"is_host": int(hosts.node_rank == 0)}
        conf |= {"join_timeout": seconds, "read_timeout": seconds}
        command += ["--rdzv-conf", ",".join(f"{key}={value}" for key, value in conf.items())]
    command += ["--nproc-per-node", str(config.hardware.ranks), "--max-restarts", "0"]
    command += ["--log-dir", str(errors)]
    also = config.select.also
    where = [str(run.path), str(config.store), *([] if also is None else [str(also)])]
    if not forks:
        return [*command, "-m", "quickdraw_core.training.rank", *where]
    forked = ["--start-method", "fork", "--run-path"]
    program = Path(training.__file__).with_name("rank.py")
    return [*command, *forked, str(program), *where]


def launcher_environment(
    config: TrainConfig,
    more: Mapping[str, str] | None = None,
    rendezvous: Rendezvous | None = None,
) -> dict[str, str]:
    """The ranks' environment: cores shared out, how threads wait, and the network for gloo: the
    loopback on one host, else the one in which the hosts meet.

    more: variables that replace those of this process.
    """
    environment = {
        name: value
        for name, value in (child_environment() | dict(more or {})).items()
        if name not in _OTHERS and not name.startswith(_OTHERS_PREFIXES)
    }
    share_cores(environment, config.hardware.ranks)
    # Asked whether there are GPUs, torch then asks the driver, and does not begin CUDA in a
    # launcher that forks the ranks.
    environment.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    # glibc gives the large tensors of a step back to the kernel and faults their pages in
    # again at the next one: a fifth of the time on a CPU. (Other allocators ignore these.)
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    if rendezvous is not None:
        interface = interface_of(rendezvous.address)
        if interface is not None:
            environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    elif sys.platform.startswith("linux") and config.hosts.nodes == 1:
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment
