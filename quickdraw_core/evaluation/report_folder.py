"""Where the report of an evaluation goes."""

import hashlib
from pathlib import Path

from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.publish import require_own_folder
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.system.files import require_writable


def report_folder(config: EvaluateConfig, models: Ensemble) -> Path:
    """As asked for; in the run's folder; an ensemble's is its own. An absolute path, not made yet.

    Raises `ConfigError` where nothing can be written there, or it is another run's.
    """
    folder = config.report_dir or _default(models)
    if len(models.members) > 1:
        require_own_folder(folder, models)
    require_writable(folder)
    return folder.absolute()


def _default(models: Ensemble) -> Path:
    member, name = models.members[0], models.members[0].report_name
    if len(models.members) > 1:
        digest = hashlib.sha256(f"{models.digest} {name}".encode()).hexdigest()[:10]
        return Path("runs") / f"ensemble-{len(models.members)}models-{digest}" / name
    return member.report_dir or Path("runs") / member.checkpoint.mlflow_run_id / name
