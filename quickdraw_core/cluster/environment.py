"""Which of several hosts this command is on, by what the launcher that started it says in the
environment.

A launcher that is already there starts the same command on each host. What it says, in the order
in which this module asks, the innermost first:

    torchrun          RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, and TORCHELASTIC_…
    Kubeflow Trainer  PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT,
                      PET_NPROC_PER_NODE: what torchrun would read, in whose place this command is
    Slurm's srun      SLURM_STEP_…, SLURM_NODEID
    PyTorchJob, you   RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT

The command starts the training processes of a host itself. So a launcher starts it once a host.

Sources: torch/distributed/run.py and elastic/agent; Kubeflow's pkg/runtime/framework/plugins/torch
(Trainer) and pkg/controller.v1/pytorch (PyTorchJob); srun(1), "output environment variables".
"""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quickdraw_core.errors import ConfigError

Environment = Mapping[str, str]
AddressOf = Callable[[str], str]
"""The address of a Slurm node, by its name."""

_FIRST_OWN_STEP = 0xFFFF_FFF0
"""Slurm's own steps have such numbers: a batch script, an interactive shell, what ssh starts."""
_SCONTROL_SECONDS = 60


@dataclass(frozen=True)
class Launched:
    """This command as one of those that a launcher has started, one a host.

    launcher: its name. node_rank: number of this host, from 0. rendezvous: host:port of host 0;
    port 0: any that is free there. ranks: training processes on each host; None: it does not say.
    is_restart: whether the launcher has started the command before, and it has ended.
    alone_of: nodes of the job, if this command has one of them and nothing runs on the others.
    """

    launcher: str
    nodes: int = 1
    node_rank: int = 0
    rendezvous: str | None = None
    ranks: int | None = None
    is_restart: bool = False
    alone_of: int = 1

    @property
    def where(self) -> str:
        """Which host this is, in words."""
        return f"host {self.node_rank} of {self.nodes} by {self.launcher}"

    @property
    def all(self) -> str:
        """All of the hosts, in words."""
        return f"{self.nodes} hosts by {self.launcher}"

    def hosts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of `HostsConfig`: those given, and for the others what the launcher says.

        given: nodes, node_rank, rendezvous, as far as the user has given them. Raises
        `ConfigError` if they contradict the launcher.
        """
        if self.nodes == 1:
            return dict(given)
        for name, option in (("nodes", "--nnodes"), ("node_rank", "--node-rank")):
            if name in given and str(given[name]) != str(getattr(self, name)):
                raise ConfigError(
                    f"{option} is {given[name]}, and this is {self.where}; leave {option} out"
                )
        ours = {"nodes": self.nodes, "node_rank": self.node_rank, "rendezvous": self.rendezvous}
        hosts = ours | dict(given)
        if hosts["rendezvous"] is None:
            raise ConfigError(
                f"this is {self.where}, and nothing says where host 0 is; set MASTER_ADDR, or "
                "give --rendezvous HOST:PORT"
            )
        return hosts

    def require_alone(self, command: str) -> None:
        """Refuses a command that does its work once, if it was started on several hosts. Raises
        `ConfigError`.
        """
        if self.nodes > 1:
            raise ConfigError(
                f"{command} does its work on one host, and this is {self.where}; start it on one, "
                "or `quickdraw train` on all of them"
            )


def find_launched(
    environment: Environment, address_of: AddressOf, is_typed: bool = False
) -> Launched:
    """What the launcher says that started this process; with the launcher's name empty if none
    did.

    address_of: asked for host 0 if a Slurm step has several. is_typed: whether somebody typed the
    command at a terminal: `srun --nodes 2 --pty bash` has a shell on the first node alone, with
    the variables of both; and what that shell starts by srun inherits `SLURM_PTY_PORT`. Raises
    `ConfigError` for what cannot work: several processes on a host, a number of hosts that is not
    fixed, half of what is needed.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return _by_torchrun(environment)
    if "PET_NNODES" in environment:
        return _by_pet(environment)
    if "SLURM_JOB_ID" in environment:
        return _by_slurm(environment, address_of, is_typed and "SLURM_PTY_PORT" in environment)
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _by_ranks(environment)
    return Launched("")


def launcher_job(environment: Environment) -> str:
    """What starts this command again after it ended, by a name that no other has; empty if nothing
    does. torch's default, `none`, and an id that its user chose twice are not that distinct.
    """
    if "SLURM_JOB_ID" in environment:
        cluster = environment.get("SLURM_CLUSTER_NAME", "")
        return f"slurm {cluster} {environment['SLURM_JOB_ID']}"
    run = environment.get("TORCHELASTIC_RUN_ID")
    return "" if run is None else f"torchrun {run}"


def first_name(node_list: str) -> str:
    """The first name of a list as Slurm writes it: `gpu[08-11,20],login` → `gpu08`."""
    name = re.match(r"(?:[^,\[]|\[[^\]]*\])*", node_list)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", name[0] if name is not None else "")


def slurm_address(name: str) -> str:
    """The address by which Slurm itself reaches a node: what `scontrol` says of it, since the
    resolver may know the name only outside the cluster's network, or not at all. Without
    `scontrol`, as in a container, the name.
    """
    command = ["scontrol", "show", "node", "--oneliner", name]
    try:
        shown = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SCONTROL_SECONDS
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return name
    address = re.search(r"\bNodeAddr=(\S+)", shown)
    return name if address is None else address[1]


def _by_torchrun(environment: Environment) -> Launched:
    """By torchrun. MASTER_ADDR and MASTER_PORT are those of its own rendezvous: the port is
    taken, and rank 0 may be on another host.
    """
    _require_one_a_host(
        "torchrun", _number(environment, "LOCAL_WORLD_SIZE", 1), "give it --nproc-per-node 1"
    )
    address = environment.get("MASTER_ADDR")
    return Launched(
        "torchrun",
        _number(environment, "WORLD_SIZE", 1),
        _number(environment, "RANK", 0),
        None if address is None else _endpoint(address, "0"),
        is_restart=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0) > 0,
    )


def _by_pet(environment: Environment) -> Launched:
    """By Kubeflow's Trainer, or whoever sets the variables that torchrun reads."""
    least, _, most = environment["PET_NNODES"].partition(":")
    if most not in ("", least):
        raise ConfigError(
            f"PET_NNODES is {environment['PET_NNODES']}, and a training has a fixed number of "
            "hosts; set it to one number"
        )
    nodes = _as_number("PET_NNODES", least)
    rendezvous = environment.get("PET_RDZV_ENDPOINT")
    if "PET_MASTER_ADDR" in environment:
        rendezvous = _master(environment, "PET_")
    elif rendezvous is None:
        rendezvous = _master(environment)
    if nodes > 1 and "PET_NODE_RANK" not in environment:
        raise ConfigError(
            f"PET_NNODES is {nodes}, and no PET_NODE_RANK says which host this is; set it, from 0"
        )
    each = environment.get("PET_NPROC_PER_NODE", "")
    return Launched(
        "PET_NNODES",
        nodes,
        _number(environment, "PET_NODE_RANK", 0),
        rendezvous,
        ranks=int(each) if each.isdigit() else None,  # auto, cpu, gpu: the recipe's
    )


def _by_slurm(environment: Environment, address_of: AddressOf, is_in_shell: bool) -> Launched:
    """By srun; or, in a batch script or a shell of a job, by nobody: then alone."""
    is_restart = _number(environment, "SLURM_RESTART_COUNT", 0) > 0
    step = _number(environment, "SLURM_STEP_ID", _FIRST_OWN_STEP)
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", 1)
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", 1)
    of_job = _number(environment, "SLURM_JOB_NUM_NODES", 1)
    if step >= _FIRST_OWN_STEP or is_in_shell:
        return Launched("Slurm", is_restart=is_restart, alone_of=of_job)
    if tasks > nodes:
        each = -(-tasks // nodes)
        _require_one_a_host("srun", each, "give it --ntasks-per-node=1")
    if nodes == 1:
        return Launched("srun", is_restart=is_restart)
    address = environment.get("MASTER_ADDR") or address_of(
        first_name(environment.get("SLURM_STEP_NODELIST", ""))
    )
    return Launched(
        "srun",
        nodes,
        _number(environment, "SLURM_NODEID", 0),
        _endpoint(address, environment.get("MASTER_PORT", "0")),
        is_restart=is_restart,
    )


def _by_ranks(environment: Environment) -> Launched:
    """By whoever sets torch's variables: RANK is then a host's number."""
    local = max(
        _number(environment, "LOCAL_WORLD_SIZE", 1), _number(environment, "LOCAL_RANK", 0) + 1
    )
    _require_one_a_host("what set RANK", local, "start it once a host")
    nodes = _number(environment, "WORLD_SIZE", 1)
    # That of one process a GPU looks the same on local rank 0.
    if nodes > 1 and "LOCAL_RANK" in environment and "LOCAL_WORLD_SIZE" not in environment:
        raise ConfigError(
            f"WORLD_SIZE is {nodes} and LOCAL_RANK is set, and nothing says whether these are "
            f"{nodes} hosts or processes of one; start this command once a host with "
            "LOCAL_WORLD_SIZE=1, or unset RANK and WORLD_SIZE"
        )
    return Launched(
        "RANK and WORLD_SIZE", nodes, _number(environment, "RANK", 0), _master(environment)
    )


def _require_one_a_host(launcher: str, each: int, remedy: str) -> None:
    if each > 1:
        raise ConfigError(
            f"{launcher} starts this command {each} times on a host, and it starts the training "
            f"processes of a host itself (--nproc {each}); {remedy}"
        )


def _master(environment: Environment, prefix: str = "") -> str | None:
    """Host 0 by MASTER_ADDR and MASTER_PORT, which is torch's own port if there is none."""
    address = environment.get(f"{prefix}MASTER_ADDR")
    port = environment.get(f"{prefix}MASTER_PORT", "29500")
    return None if address is None else _endpoint(address, port)


def _endpoint(address: str, port: str) -> str:
    is_v6 = ":" in address and not address.startswith("[")
    return f"[{address}]:{port}" if is_v6 else f"{address}:{port}"


def _number(environment: Environment, name: str, default: int) -> int:
    """A variable as a number. Raises `ConfigError` if it is none."""
    return _as_number(name, environment.get(name) or str(default))


def _as_number(name: str, text: str) -> int:
    if not text.isdigit():
        raise ConfigError(f"{name} is {text!r} in the environment, and must be a number; unset it")
    return int(text)
