"""The work of an ingest: sources → windows → Dask → store.

Each finished window leaves a receipt, so that a run that ends early loses only what was not
finished. The manifest is written last. Until then a new store counts as unfinished, and one that
could be read before is unchanged.
"""

from pathlib import Path
from typing import Any, NamedTuple

from quickdraw_core.dataset_card.card_files import card_files
from quickdraw_core.ingest.build_manifest import build_manifest
from quickdraw_core.ingest.cluster import SMALL_BYTES, cluster
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.target import open_target, publish
from quickdraw_core.ingest.window_run import WindowRun
from quickdraw_core.progress import progress
from quickdraw_core.sources.files import SourceFile
from quickdraw_core.sources.find import FoundFiles
from quickdraw_core.storage.urls import scheme_of
from quickdraw_core.store.manifest import README_NAME, Manifest, readme_fault
from quickdraw_core.system.files import require_writable


class MadeStore(NamedTuple):
    """The store's new manifest; why files could not be used, by their address; how many windows
    of the store were there before; why not all of the dataset card was written, or None.
    """

    manifest: Manifest
    failures: dict[str, str]
    reused: int
    card_problem: str | None


def make_store(
    config: IngestConfig, sources: FoundFiles, options: dict[str, Any], previous: Manifest | None
) -> MadeStore:
    """Makes `config.store` of the files of `sources`. options: those that its manifest records;
    previous: the manifest that is replaced. Raises what `ingest.ingest` raises once it works.
    """
    if isinstance(config.store, Path):
        require_writable(config.store)
    with cluster(config, _is_small(sources.files)) as client:
        target = open_target(config)
        run = WindowRun(config, target, sources.files)
        with progress("ingest", None, "rows") as bar:
            run.run(client, bar)
    receipts = list(run.receipts.values())
    manifest = build_manifest(config, options, run.planned, receipts, previous)
    failed = [source.word for source in sources.files if source.address in run.failures]
    paths = {receipt.file.path: target.path_of(receipt) for receipt in receipts}
    storage = target.storage(staged=False)
    card, problem = card_files(manifest, storage, paths), readme_fault(storage)
    if problem is not None:
        del card[README_NAME]
    left_out = [*failed, *(file.word for file in sources.bad)]
    publish(target, manifest, card, receipts, left_out)
    return MadeStore(manifest, run.failures, len(run.reused), problem)


def _is_small(sources: list[SourceFile]) -> bool:
    is_local = not any(scheme_of(source.location) for source in sources)
    return is_local and sum(source.stamp.size_bytes for source in sources) <= SMALL_BYTES
