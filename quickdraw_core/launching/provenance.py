"""What a training was made of: code, data, environment and plan, recorded when it begins.

It stands in `run.json`, goes from there into each checkpoint, and so travels with the model; in
MLflow they are tags. `differences/` compares two of them.
"""

import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.store import Store
from quickdraw_core.system.threads import usable_cores
from quickdraw_core.training.config import TrainConfig, training_code_by_package

_UNKNOWN = "unknown"
_CPU_NAME = "model name"


def provenance_of(config: TrainConfig, store: Store, steps: int) -> dict[str, dict[str, Any]]:
    """Code, data, environment and plan of a training that begins now, as plain values by name.

    steps: of the whole run.

    A rank adds what it alone knows of its device (`training/hardware.py`).
    """
    return {
        "code": {"git commit": git_commit(), **training_code_by_package()},
        "data": data_of(store.manifest),
        "environment": {
            "processor": processor_name(),
            "cores": usable_cores(),
            "system": f"{platform.system()} {platform.machine()}",
            "ranks": config.world_size,
            "hosts": config.hosts.nodes,
        },
        "plan": {"steps": steps},
    }


def data_of(manifest: Manifest) -> dict[str, Any]:
    """The data of a store, in some numbers. rows: which were asked for."""
    return {
        "store": manifest.fingerprint,
        "drawings": manifest.rows_kept,
        "classes": len(manifest.label_map) if manifest.label_map is not None else 0,
        "rows": manifest.options.get("rows"),
        "seed of rows": manifest.options.get("seed"),
        "windows": len(manifest.files),
        "quarantined": manifest.rows_read - manifest.rows_kept,
        "test share": manifest.holdout.test_share,
        "validation share": manifest.holdout.validation_share,
    }


def provenance_tags(provenance: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """As tags of an MLflow run: `code.loading`, `data.drawings`, `environment.processor`."""
    return {
        f"{group}.{name}".replace(" ", "_"): str(value)
        for group, values in provenance.items()
        for name, value in values.items()
    }


def git_commit() -> str:
    """The commit of this code; `unknown` outside a checkout."""
    if shutil.which("git") is None:
        return _UNKNOWN
    command = ["git", "rev-parse", "HEAD"]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=here)
    return done.stdout.strip() if done.returncode == 0 else _UNKNOWN


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself; its architecture if it does not say."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(_CPU_NAME))
    return next(filter(None, named), "") or platform.processor() or platform.machine()
