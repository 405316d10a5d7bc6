"""What can be made again: packs, row indices, bundles of the cache folder, Prefect's results."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from quickdraw_core.errors import QuickdrawError
from quickdraw_core.retention.folders import Weight, weigh
from quickdraw_core.retention.plan import Kind, Thing
from quickdraw_core.retention.runs import TRASH, FoundRun
from quickdraw_core.serving.bundle import is_bundle
from quickdraw_core.storage.storage import PACKS
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.pack import is_packed, packs_in, store_of_pack
from quickdraw_core.system.files import cache_folder
from quickdraw_core.system.locks import FOLDER_LOCK, holder_of, lock_of_file

BUNDLES, INDICES, CACHED_PACKS = "bundles", "rows", "packs"
_RESULT = re.compile(r"[a-z]+-[0-9a-f]{32}")
"""The name of a stage's kept result (`stage.key_of`); other programs' have other names."""
_DOWNLOADED = "logged-"
_UNFINISHED = "never finished"


def find_packs(stores: Iterable[Path], runs: Collection[FoundRun]) -> Iterator[Thing]:
    """The packs of stores here, and those of stores elsewhere in the cache folder.

    A pack was last used when it was built or read, as far as the file system notes that, or when
    a run on its store was last written to.
    """
    for store in sorted(stores):
        fingerprint, writer = "", holder_of(store / FOLDER_LOCK)
        with suppress(QuickdrawError, OSError):
            fingerprint = Manifest.read(store).fingerprint
        for pack in packs_in(store / PACKS):
            outdated = fingerprint and pack.name != fingerprint[:16]
            useless = "of what its store was before" if outdated else ""
            weight = weigh(pack, reads_count=True)
            yield _pack(pack, weight, str(store), runs, useless, writer)
    for pack in packs_in(_cache(CACHED_PACKS)):
        weight = weigh(pack)  # the folder's own time is that of its last use
        weight = Weight(weight.size_bytes, max(weight.written, pack.stat().st_mtime))
        yield _pack(pack, weight, store_of_pack(pack) or "", runs)


def _pack(
    pack: Path,
    weight: Weight,
    store: str,
    runs: Iterable[FoundRun],
    useless: str = "",
    writer: str | None = None,
) -> Thing:
    on_store = [run for run in runs if store and store in run.stores]
    at_work = next((run for run in on_store if run.at_work), None)
    needed = f"at work on its store: {writer}" if writer else ""
    if at_work is not None:
        needed = f"{at_work.path.name} is at work on its store"
    if not is_packed(pack):
        return Thing(Kind.PACK, str(pack), *weight, needed, _UNFINISHED)
    used = max([weight.written, *(run.used for run in on_store)])
    return Thing(Kind.PACK, str(pack), weight.size_bytes, used, needed, useless)


def find_indices() -> Iterator[Thing]:
    """The row indices of the cache folder; a source is scanned again if its index is gone."""
    for path in _files(_cache(INDICES)):
        weight = weigh(path, reads_count=True)
        useless = _UNFINISHED if path.name.startswith(".") else ""
        yield Thing(Kind.INDEX, str(path), *weight, useless=useless)


def find_bundles(champions: Collection[str]) -> Iterator[Thing]:
    """The bundles of the cache folder. champions: digests of weights that an alias is on."""
    folder = _cache(BUNDLES)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_dir():
            continue
        weight = weigh(path, reads_count=True)
        writer = holder_of(lock_of_file(path))
        needed = f"at work: {writer}" if writer else ""
        if path.name.removeprefix(_DOWNLOADED) in champions:
            needed = "a champion's"
        useless = "" if is_bundle(path) and not path.name.startswith(".") else _UNFINISHED
        yield Thing(Kind.BUNDLE, str(path), *weight, needed=needed, useless=useless)


def find_results(folder: Path | None, needed: Collection[str]) -> Iterator[Thing]:
    """The results that Prefect kept of this program's stages. needed: their keys that a run may
    still ask for.
    """
    for path in _files(folder) if folder is not None else ():
        if _RESULT.fullmatch(path.name):
            reason = "a run of Prefect may ask for it" if path.name in needed else ""
            yield Thing(Kind.RESULT, str(path), *weigh(path), needed=reason)


def find_leftovers(runs: Path) -> Iterator[Thing]:
    """What is left of runs whose removal was stopped."""
    trash = runs.absolute() / TRASH
    for path in sorted(trash.iterdir()) if trash.is_dir() else ():
        size, _ = weigh(path)
        yield Thing(Kind.LEFTOVER, str(path), size, 0.0, useless="its removal was stopped")


def _cache(name: str) -> Path:
    try:
        return cache_folder(name).absolute()
    except QuickdrawError:  # a user without a home has no cache either
        return Path(name) / "none"


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in folder.absolute().iterdir() if path.is_file())
    return []
