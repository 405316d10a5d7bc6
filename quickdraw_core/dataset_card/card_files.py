"""The two files of a dataset card: made of a store, and written into it."""

import hashlib
from collections.abc import Mapping

from quickdraw_core.dataset_card.content import card_content
from quickdraw_core.dataset_card.croissant import croissant_json
from quickdraw_core.dataset_card.readme import describe, readme
from quickdraw_core.storage.storage import Storage
from quickdraw_core.store.manifest import CROISSANT_NAME, README_NAME, Manifest


def card_files(
    manifest: Manifest,
    storage: Storage,
    paths: Mapping[str, str] | None = None,
    stored: bytes | None = None,
) -> dict[str, bytes]:
    """Name → content of the card's files, in the order in which they are to be written.

    paths: where the storage has a file of the manifest now, if that is not its path in the store.
    stored: the content of `manifest.json`, if it is not what `Manifest.as_bytes` gives, as another
    version wrote it. Raises what `Storage.read_table` does.
    """
    content = card_content(manifest, storage, paths)
    digest = hashlib.sha256(manifest.as_bytes() if stored is None else stored).hexdigest()
    croissant = croissant_json(content, digest, describe(content))
    return {CROISSANT_NAME: croissant.encode(), README_NAME: readme(content).encode()}
