"""What the switches of the configuration mean on the hardware at hand."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.system.threads import threads_each

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""One of these exists if Linux has a driver of GPUs: NVIDIA's (with its devices, which the
first use of CUDA may have to make, or without), that of its Jetson boards, Windows's, or AMD's.
"""
_LOADER = "nvidia-modprobe"
"""By which CUDA has NVIDIA's driver loaded when it is first used, if nothing did so before."""
_COMPILERS = ("c++", "g++", "clang++", "cl")


class HardwareConfig(Config):
    """How a host's processors are used: what changes speed, and the weights by rounding alone."""

    ranks: int = Field(2, ge=1, description="training processes on each host")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cuda means nccl, cpu gloo; auto: cuda if every rank has a GPU"
    )
    channels_last: bool | None = Field(
        None, description="memory layout of images and weights; default: channels last"
    )
    compile: bool | None = Field(None, description="torch.compile; default: on GPUs alone")
    loader_threads: int | None = Field(
        None,
        ge=0,
        description="threads a rank that draw ahead; 0: the model's own; default: 0, on GPUs more",
    )
    prefetch_batches: int = Field(4, ge=1, description="micro-batches drawn ahead of the model")
    timeout_seconds: int = Field(
        300, ge=10, description="of one exchange between the ranks, after which all end, seconds"
    )


@dataclass(frozen=True)
class Arithmetic:
    """How a network is computed on a device: decided once, for all ranks alike."""

    bf16: bool
    channels_last: bool
    compiled: bool

    def input(self, images: "Tensor", device: "torch.device") -> "Tensor":
        """uint8 [N, C, S, S] → float32 0..1 on the device, in the network's memory layout."""
        import torch

        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        moved = images.to(device, non_blocking=True)
        return moved.float().div_(255).contiguous(memory_format=layout)

    def place(self, network: "nn.Module", device: "torch.device") -> None:
        """Moves a network to the device, in the layout of its input."""
        import torch

        layout = torch.channels_last if self.channels_last else torch.preserve_format
        network.to(device=device, memory_format=layout)  # type: ignore[call-overload]

    def forward_of(self, network: "nn.Module") -> "Callable[[Tensor], Tensor]":
        """What computes the network: itself, or compiled.

        Not compiled are modules that set `compilable` to False, of a network compiled around them:
        code is made for shapes, and theirs follow the values.
        """
        import torch

        if not self.compiled:
            return network
        for module in network.modules():
            if not getattr(module, "compilable", True):
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[no-untyped-call]
        return torch.compile(network)

    def autocast(self, device: "torch.device") -> "torch.autocast":
        """A block whose matrix products and convolutions are computed in bf16, if they are."""
        import torch

        return torch.autocast(device.type, torch.bfloat16, enabled=self.bf16)


def gpu_count() -> int:
    """GPUs that this process sees."""
    if not has_gpu_driver():
        return 0
    import torch

    return torch.cuda.device_count()


def has_gpu_driver() -> bool:
    """Whether there may be GPUs, found out without torch, which takes two seconds to load."""
    if not sys.platform.startswith("linux"):
        return True
    return any(Path(name).exists() for name in _DRIVERS) or shutil.which(_LOADER) is not None


def choose_device(wanted: str, ranks: int) -> str:
    """`cuda` or `cpu`: what `auto` means for so many ranks on this host."""
    if wanted != "auto":
        return wanted
    return "cuda" if gpu_count() >= ranks else "cpu"


def fastest_ranks(hardware: HardwareConfig, micro_batches: int) -> int:
    """Ranks of a training on this host alone, if nobody says how many: on a CPU two in place of
    one. Two ranks of one thread trained `sketch_fusion` 1.7 times as fast as one of two (measured,
    Intel Xeon): threads wait for each other in every layer, ranks once a step.
    """
    can_be_two = hardware.ranks == 1 and micro_batches % 2 == 0 and threads_each(1) > 1
    is_cpu = choose_device(hardware.device, hardware.ranks) == "cpu"
    return 2 if can_be_two and is_cpu else hardware.ranks


def unused_gpus(hardware: HardwareConfig, micro_batches: int, hosts: int) -> str | None:
    """What to say if `auto` means the CPU though there are GPUs: fewer than ranks."""
    gpus = gpu_count()
    if hardware.device != "auto" or not 0 < gpus < hardware.ranks:
        return None
    fit = max(ranks for ranks in range(1, gpus + 1) if micro_batches % (ranks * hosts) == 0)
    return (
        f"{gpus} GPU{'s' if gpus > 1 else ''} and {hardware.ranks} ranks: training on the CPU; "
        f"--nproc {fit} uses {'the GPU' if gpus == 1 else 'GPUs'}"
    )


def choose_arithmetic(hardware: HardwareConfig, precision: str, device: str) -> Arithmetic:
    """What `auto` means on `cpu` or `cuda`.

    bf16 if the hardware multiplies in it: on GPUs since Ampere, on CPUs with AMX or AVX-512 BF16.
    With the latter a network takes 0.5 to 0.62 of its time in float32 (three networks, AMD EPYC).
    Without these instructions bf16 takes 1.9 times as long as float32 (measured with
    `ONEDNN_MAX_CPU_ISA=AVX512_CORE`).
    `torch.compile` on GPUs: on a CPU `small_cnn` takes 17 s to compile and is no faster then
    (measured: 1,136 and 1,326 images/s against 1,240 and 1,320).
    """
    import torch

    if device == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return Arithmetic(
        bf16={"auto": has_bf16, "bf16": True, "fp32": False}[precision],
        channels_last=hardware.channels_last is not False,
        compiled=is_compiled(hardware, device),
    )


def describe_hardware(device: "torch.device", arithmetic: Arithmetic) -> dict[str, str | int]:
    """What a rank computes on, and how: GPU's name, threads, arithmetic."""
    import torch

    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else device.type,
        "threads": torch.get_num_threads(),
        "arithmetic": "bf16" if arithmetic.bf16 else "fp32",
    }


def is_compiled(hardware: HardwareConfig, device: str) -> bool:
    """Whether a network goes through `torch.compile` on `cpu` or `cuda`."""
    return device == "cuda" if hardware.compile is None else hardware.compile


def choose_loader_threads(hardware: HardwareConfig, device: str) -> int:
    """Threads of a rank that draw beside the model, which together are no more than its cores.

    On a CPU none: the model has a thread a core, and draws a batch itself in less than a hundredth
    of the time that it computes on it. Another thread would take a core from it now and then,
    and then all of the model's threads wait.
    """
    if hardware.loader_threads is not None:
        return hardware.loader_threads
    return 0 if device == "cpu" else min(8, max(1, threads_each(hardware.ranks) - 1))


def check_hardware(hardware: HardwareConfig) -> None:
    """Refuses what this host cannot do. Raises `ConfigError`."""
    if find_spec("torch") is None:
        raise ConfigError(
            "training needs torch, which is not installed here; install this package with its "
            "extra named train"
        )
    device = choose_device(hardware.device, hardware.ranks)
    if device == "cuda" and gpu_count() < hardware.ranks:
        raise ConfigError(
            f"{hardware.ranks} ranks on cuda, but this host has {gpu_count()} GPUs; "
            "give a smaller --nproc or --set hardware.device=cpu"
        )
    if is_compiled(hardware, device) and not any(map(shutil.which, _COMPILERS)):
        raise ConfigError(
            "torch.compile needs a C++ compiler and finds none here; install one, or give "
            "--set hardware.compile=false"
        )
