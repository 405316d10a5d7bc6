"""What a machine, a shell or CI sets around the tests, and what of it a test may know: nothing."""

import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quickdraw_core.system.threads import set_waiting

_REMOVED = (
    *("MLFLOW_", "PREFECT_", "QUICKDRAW_", "DASK_"),
    *("OMP_", "GOMP_", "KMP_", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_"),
    *("OPENBLAS_", "MKL_", "BLIS_", "VECLIB_", "TORCH", "PYTORCH_", "ATEN_", "ONEDNN_", "DNNL_"),
    *("NUMBA_", "MPL", "MALLOC_"),
    *("FORCE_COLOR", "NO_COLOR", "PY_COLORS", "CLICOLOR", "GITHUB_ACTIONS", "LINES"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("PET_", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_", "SLURM_", "SBATCH_", "SRUN_"),
)
"""How the names begin of variables that change what the program or its libraries do."""

_INTERPRETERS = ("PYTHON", "LC_", "LANG", "LD_")
"""How those begin that an interpreter reads when it starts: where one differs, the program that
forks in place of it no longer does (`forkserver.py`), and each command takes seconds.
"""

_KEPT = (
    *("QUICKDRAW_SHARED", "QUICKDRAW_BROWSER", "QUICKDRAW_STACK", "QUICKDRAW_TEST_"),
    "QUICKDRAW_PICTURE_RUN",
)
"""Where the tests find what they need, and what `session.py` hands on to its workers."""

_SET = {
    "OMP_NUM_THREADS": "1",  # a sum's order, and so its last bit, depends on their number
    "COLUMNS": "80",
    "TERM": "dumb",
    "TZ": "Asia/Kathmandu",  # 5:45 from UTC: what is local time by mistake is seen
}

_DEFAULTS = (
    *("MLFLOW_DISABLE_", "MLFLOW_ENABLE_", "MLFLOW_HTTP_", "TORCHINDUCTOR_"),
    *("MALLOC_", "MKL_", "OPENBLAS_", "KMP_DUPLICATE_LIB_OK", "QUICKDRAW_ADDRESS_"),
)
"""What the program or a library sets once in a process, the same for all that follows: how it
asks a server, where it compiles to, Dask's memory and threads, scikit-learn's leave to load OpenMP
twice, logins kept out of addresses.
"""


def settle() -> None:
    """Makes the environment of the tests and their processes the same everywhere. Before torch is
    imported, which reads it once.
    """
    for name in list(os.environ):
        if name.startswith(_REMOVED) and not name.startswith(_KEPT):
            del os.environ[name]
    os.environ.update(_SET)
    set_waiting(os.environ)
    time.tzset()


def settings() -> dict[str, str]:
    """What the environment now holds of what decides something, but for `_DEFAULTS`."""
    decisive = _REMOVED + _INTERPRETERS
    return {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(decisive) or name in _SET) and not name.startswith(_DEFAULTS)
    }


@contextmanager
def own_environment() -> Iterator[None]:
    """A block after which the environment is as it was before, whatever was set in it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A block in which this process is no root, whom no permission holds, and a folder of that
    user's. CI runs as root, people do not.
    """
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    user = os.geteuid()
    try:
        if user == 0:
            os.chown(folder, 65_534, -1)
            try:
                os.seteuid(65_534)
            except OSError:
                pytest.skip("this root may not become another user")
        yield folder
    finally:
        if user == 0:
            os.seteuid(user)
        shutil.rmtree(folder)


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """A block in which root, whom permissions do not hold, is held by them as people are."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, of this thread
    before = (ctypes.c_uint32 * 6)()
    if libc.capget(header, before):
        pytest.skip("this system tells no capabilities")
    held = (ctypes.c_uint32 * 6)(*before)
    held[0] &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: effective ones
    assert libc.capset(header, held) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Has this process find so many GPUs."""
    monkeypatch.setattr("quickdraw_core.training.hardware.has_gpu_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
