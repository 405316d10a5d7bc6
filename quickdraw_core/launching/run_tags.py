"""What MLflow shows of a training beside its curves: params and tags."""

import getpass
import shutil
import subprocess
from pathlib import Path

from quickdraw_core.assignments import flattened
from quickdraw_core.store.store import Store
from quickdraw_core.training.config import TrainConfig, training_code
from quickdraw_core.training.hardware import choose_device


def params_of(config: TrainConfig) -> dict[str, object]:
    """The configuration flat, as MLflow compares it: `augment.shear` beside `model`."""
    return flattened(config.model_dump(mode="json", exclude={"run_dir", "fresh", "tracking_uri"}))


def tags_of(config: TrainConfig, store: Store) -> dict[str, str]:
    """Code, data and machine of a training."""
    commit, device = _git_commit(), choose_device(config.device, config.ranks)
    return {
        "code_version": training_code(),
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "mlflow.source.name": "quickdraw train",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "store_fingerprint": store.manifest.fingerprint,
        "label_map_sha256": store.label_map.sha256,
        "classes": str(len(store.label_map)),
        "world_size": str(config.world_size),
        "device": device,
    }


def _user() -> str:
    """Who runs this, as MLflow's own client would say."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return "unknown"


def _git_commit() -> str:
    """The commit of this code; `unknown` outside a checkout."""
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "rev-parse", "HEAD"]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=here)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
