"""Store → flat arrays on disk, which training and evaluation read."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from flows.stages import Stage
from quickdraw_core.config import Config
from quickdraw_core.errors import QuickdrawError
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify_pack import find_pack


class PackConfig(Config):
    """Which store to pack."""

    store: Path = Field(description="folder of the store")


@dataclass(frozen=True)
class PackResult:
    """Where the pack is. `skipped`: it was there already."""

    path: Path
    drawings: int
    skipped: bool = False


def _pack(config: PackConfig) -> PackResult:
    """Builds the pack of a store, where it is not there."""
    pack = open_pack(Store.open(config.store))
    return PackResult(pack.path, len(pack))


def _inputs(config: PackConfig) -> object:
    store = Store.open(config.store)
    return [store.path, store.manifest.fingerprint]


def _is_finished(config: PackConfig) -> bool:
    """Whether the pack is there, with as many drawings, strokes and points as the store."""
    try:
        store = Store.open(config.store)
        found, problems, _ = find_pack(store.path, store.manifest)
    except (QuickdrawError, OSError):
        return False
    return found is not None and not problems


pack_stage = Stage("pack", _pack, _inputs, _is_finished)
