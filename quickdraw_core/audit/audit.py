"""The audit stage: which drawings have the wrong word, are like no word, or repeat others.

What it does and writes: `run_audit.py`. Whoever stopped it gives the same command again: finished
folds are used again, an unfinished training goes on from its checkpoint, and scoring with the
first part that is missing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from quickdraw_core.audit.config import AuditConfig
from quickdraw_core.audit.folds import fold_configs
from quickdraw_core.audit.result import AuditResult
from quickdraw_core.errors import CheckpointError, StoreError
from quickdraw_core.inference.ensemble import PREDICTING_CODE
from quickdraw_core.launching.train import TRAIN_STAGE
from quickdraw_core.outputs import result_of_outputs
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of, options_of
from quickdraw_core.storage.begun_by import is_begun_by
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.code_version import code_version
from quickdraw_core.system.files import require_writable
from quickdraw_core.system.locks import held_folder, require_free_folder
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RUN_NAME, RUNS


@dataclass(frozen=True)
class PreparedAudit:
    """An audit that can begin. folds: the training of each; folder: an absolute path, which may
    not exist yet.
    """

    config: AuditConfig
    opened: Opened = field(repr=False)
    store: Store = field(repr=False)
    folds: Sequence[TrainConfig]
    folder: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides what is written."""
        fingerprint = self.store.manifest.fingerprint
        decisive = options_of(self.config, "store", "out_dir", "recipe", "changes")
        decisive |= {"folds": [fold.identity(fingerprint) for fold in self.folds]}
        decisive |= {"store": fingerprint, "code": code_version("audit", *PREDICTING_CODE)}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def key(self) -> str:
        """Of folder, data, options and code."""
        return key_of("audit", self.digest, str(self.folder))

    def finished(self) -> AuditResult | None:
        """An earlier result of the same store, options and code, if its files are whole."""
        if self.config.fresh:
            return None
        result = result_of_outputs(self.folder, self.digest, AuditResult)
        return None if result is None else replace(result, skipped=True)

    def is_begun_by(self, job: str) -> bool:
        """Whether the job has started the audit over before. job: as `launcher_job` gives it."""
        return is_begun_by(LocalStorage(self.folder), job)

    def unfinished(self) -> Outlook:
        """Which folds are trained, and which are not."""
        if self.config.fresh:
            return Outlook(Action.ANEW, "starts over, as asked for")
        outlooks = [TRAIN_STAGE.outlook(fold, self.opened) for fold in self.folds]
        if all(outlook.action == Action.ANEW for outlook in outlooks):
            return Outlook(Action.ANEW, "no fold is trained yet")
        done = sum(outlook.action == Action.REUSE for outlook in outlooks)
        going_on = next((o.why for o in outlooks if o.action == Action.CONTINUE), "")
        why = f"{done} of {len(outlooks)} folds are trained"
        return Outlook(Action.CONTINUE, f"{why}; one goes on {going_on}" if going_on else why)

    def run(self) -> AuditResult:
        """Trains what is not trained, scores what is not scored, and writes page and files.

        Raises `BusyError` if another audit is at work in the folder, and what a training raises.
        """
        # Here, since a finished audit needs none of it.
        from quickdraw_core.audit.run_audit import run_audit

        with held_folder(self.folder, "audit"):
            return self.finished() or run_audit(
                self.config, self.folds, self.folder, self.digest, self.opened
            )


def prepare(config: AuditConfig, opened: Opened) -> PreparedAudit:
    """Opens the store, and checks the training of each fold.

    Raises `StoreError`, `ConfigError`, `BusyError`, or `CheckpointError` for a folder of another
    audit.
    """
    store = open_store(config.store, opened)
    if len(store.label_map) < 2:
        raise StoreError(
            f"{config.store} holds {len(store.label_map)} word: there is no other that a drawing "
            "could be of; give a store of two words or more"
        )
    folder = _folder(config, store)
    require_writable(folder)
    require_free_folder(folder)
    folds = fold_configs(config, folder)
    for fold in folds:
        prepared = TRAIN_STAGE.prepared(fold, opened)
        if not config.fresh:
            try:
                prepared.unfinished()
            except CheckpointError as error:
                raise CheckpointError(
                    f"{folder} holds an audit of other options, data or code; give another --out, "
                    "or --fresh to start over there"
                ) from error
    return PreparedAudit(config, opened, store, folds, folder)


def _folder(config: AuditConfig, store: Store) -> Path:
    """As configured, else named by what is trained on what."""
    if config.out_dir is not None:
        return config.out_dir.absolute()
    first = fold_configs(config, RUNS)[0].identity(store.manifest.fingerprint)
    return (RUNS / f"audit-{len(store.label_map)}classes-{first}").absolute()


def _begun_at(config: AuditConfig, opened: Opened) -> float | None:
    """When the training of the first fold was begun, or last gone on with."""
    folder = _folder(config, open_store(config.store, opened))
    return LocalStorage(folder / "fold-0").modified(RUN_NAME)


AUDIT_STAGE = Stage("audit", prepare, _begun_at)
