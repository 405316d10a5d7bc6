"""From a location to the storage that it names."""

from pathlib import Path

from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.storage.location import Address
from quickdraw_core.storage.objects import ObjectStorage
from quickdraw_core.storage.storage import Storage


def storage_of(location: Path | Address) -> Storage:
    """The storage at a location; nothing is read yet."""
    return ObjectStorage(location) if isinstance(location, Address) else LocalStorage(location)
