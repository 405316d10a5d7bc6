"""What a host has, found out before torch is loaded."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from quickdraw_core.errors import ConfigError
from quickdraw_core.training import hardware
from quickdraw_core.training.hardware import HardwareConfig, check_hardware, gpu_count


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> int:
    """GPUs that torch finds, on a Linux without any sign of a driver."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(hardware, "_DRIVERS", ())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return 2


def test_without_a_driver_there_are_no_gpus(gpus: int) -> None:
    assert gpu_count() == 0


def test_torch_is_asked_where_a_driver_is_there(
    gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_DRIVERS", ("/nothing", str(tmp_path)))
    assert gpu_count() == gpus


def test_torch_is_asked_where_a_driver_may_still_be_loaded(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", {"nvidia-modprobe": "/usr/bin/nvidia-modprobe"}.get)
    assert gpu_count() == gpus


def test_a_training_without_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="extra named train"):
        check_hardware(HardwareConfig())
