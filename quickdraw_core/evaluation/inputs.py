"""What an evaluation works on, and the digest of all that decides its result."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.inference.ensemble import PREDICTING_CODE, Ensemble
from quickdraw_core.stage import Opened, options_of
from quickdraw_core.store.store import Store
from quickdraw_core.system.code_version import code_version

_JUDGING_CODE = (
    *PREDICTING_CODE,
    *("evaluation", "inference", "metrics", "reporting", "diagnosis"),
)
_UNDECISIVE = (
    *("model", "ensemble", "store", "ranks", "batch_size", "report_dir", "tracking_uri"),
    *("dask", "tls", "require"),
)
"""Options that do not decide what is written, or only by the models and the store they name."""


@dataclass(frozen=True)
class EvaluationInputs:
    """Store and models, which are open and belong together, and the configuration.

    folder: of the report; an absolute path, which may not exist yet.
    """

    config: EvaluateConfig
    opened: Opened = field(repr=False)
    store: Store = field(repr=False)
    models: Ensemble = field(repr=False)
    folder: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides what is written."""
        decisive = options_of(self.config, *_UNDECISIVE)
        if self.config.json_file is not None:
            decisive["json_file"] = str(self.config.json_file.absolute())
        decisive |= {"models": self.models.digest, "store": self.store.manifest.fingerprint}
        decisive |= {"tracking_uri": self.tracking_uri, "code": code_version(*_JUDGING_CODE)}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @cached_property
    def tracking_uri(self) -> str:
        """MLflow's address of the model's run."""
        return self.models.tracking_uri(self.config.tracking_uri)
