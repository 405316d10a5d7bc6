"""The pack stage: store → flat arrays on disk, which training and evaluation read."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from quickdraw_core.config import Config
from quickdraw_core.errors import BusyError, StoreError
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of
from quickdraw_core.storage.location import Location
from quickdraw_core.store.pack import opened_pack, pack_folder, remove_pack
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.store.verify_pack import find_pack


class PackConfig(Config):
    """Which store to pack."""

    store: Location = Field(description="folder or address of the store")


@dataclass(frozen=True)
class PackResult:
    """Where the pack is. skipped: it was there already."""

    path: Path
    drawings: int
    skipped: bool = False


def prepare(config: PackConfig, opened: Opened) -> "PreparedPack":
    """Opens the store. Raises `StoreError`, for a store of drawings without words too."""
    store = open_store(config.store, opened)
    _ = store.label_map  # raises if there is none
    return PreparedPack(store, opened)


@dataclass(frozen=True)
class PreparedPack:
    """A pack that can be built, of a store that is open."""

    store: Store
    opened: Opened

    def key(self) -> str:
        """Of the store's address and content."""
        return key_of("pack", self.store.path, self.store.manifest.fingerprint)

    def finished(self) -> PackResult | None:
        """The pack, if it is there with as many drawings, strokes and points as the store."""
        pack, _, _ = find_pack(self.store, self.opened)
        return None if pack is None else PackResult(pack.path, len(pack), skipped=True)

    def unfinished(self) -> Outlook:
        """Why there is no pack to use."""
        _, problems, _ = find_pack(self.store, self.opened)
        return Outlook(Action.ANEW, problems[0] if problems else "the store has no pack yet")

    def run(self) -> PackResult:
        """Builds the pack, unless another process has done so by now. Raises `WriteError` if
        it cannot be written, `StoreError` if the one that is there is damaged.
        """
        store = open_store(self.store.path, self.opened)
        pack = opened_pack(store, self.opened)
        _, problems, _ = find_pack(store, self.opened)
        if problems:
            raise StoreError(problems[0])
        return PackResult(pack.path, len(pack))


def _begun_at(config: PackConfig, opened: Opened) -> float | None:
    """When the pack was built."""
    folder = pack_folder(open_store(config.store, opened))
    return folder.stat().st_mtime if folder.is_dir() else None


def _forget(config: PackConfig, opened: Opened, since: float) -> None:
    """Deletes a pack of before. Processes that have it open keep it. Raises `BusyError` if another
    command builds one beside it.
    """
    built = _begun_at(config, opened)
    folder = pack_folder(open_store(config.store, opened))
    if built is not None and built < since and not remove_pack(folder):
        raise BusyError(
            f"another command builds a pack beside {folder}; try again when it is done"
        )


PACK_STAGE = Stage("pack", prepare, _begun_at, _forget)
