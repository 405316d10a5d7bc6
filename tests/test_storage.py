"""What every storage promises, tested on a folder and on a bucket of a real S3 server."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import ENVIRONMENT, Bucket, s3_bucket

from quickdraw_core.errors import StoreError
from quickdraw_core.storage import object_client
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import location_of
from quickdraw_core.storage.storage import Storage

TABLE = pa.table({"key_id": [1, 2, 3], "word": ["sun", "cat", "sun"]})


class StorageContract:
    """The fixture `storage` of a subclass is one without any file."""

    def test_an_empty_storage_has_nothing(self, storage: Storage) -> None:
        assert not storage.top()
        assert storage.names() == []
        assert list(storage.sizes(["a"])) == [None]
        assert (storage.status("a"), storage.modified("a"), storage.version("a")) == (None,) * 3

    def test_what_is_written_is_read_and_listed(self, storage: Storage) -> None:
        large = bytes(range(256)) * (48 << 10)  # 12 MiB: a bucket takes it in parts
        files = {"a/b/one": b"1" * 9, "a/two": b"22", "top": b"", "a/large": large}
        for name, data in files.items():
            storage.write(name, data)
        assert {name: storage.read(name) for name in storage.names()} == files
        assert sorted(storage.top() or ()) == ["a", "top"]
        assert list(storage.sizes(["a/two", "none", "top", "a/b/one"])) == [2, None, 0, 9]
        assert [storage.is_file(name) for name in ("a/two", "a", "none")] == [True, False, False]
        assert storage.sha256("a/two") == hashlib.sha256(b"22").hexdigest()
        assert storage.address("a/two").startswith(storage.address(""))

    def test_a_file_written_again_has_another_version(self, storage: Storage) -> None:
        storage.write("one", b"1")
        before = storage.version("one")
        assert storage.version("one") == before is not None
        storage.write("one", b"22")
        assert storage.version("one") != before
        assert storage.read("one") == b"22"

    def test_a_missing_file_is_not_found(self, storage: Storage) -> None:
        storage.write("a/one", b"1")
        for call in (storage.read, storage.sha256, storage.read_table):
            with pytest.raises(FileNotFoundError):
                call("a/two")

    def test_a_table_is_written_and_its_columns_are_read(self, storage: Storage) -> None:
        written = storage.create("word=sun/part", lambda stream: pq.write_table(TABLE, stream))
        assert storage.names() == ["word=sun/part"]
        data = storage.read("word=sun/part")
        assert written == (len(data), hashlib.sha256(data).hexdigest())
        assert storage.read_table("word=sun/part").equals(TABLE)
        assert storage.read_table("word=sun/part", ["key_id"]).equals(TABLE.select(["key_id"]))

    def test_a_file_that_cannot_be_made_is_not_there(self, storage: Storage) -> None:
        def fail(stream: object) -> None:
            raise RuntimeError("half of a file")

        with pytest.raises(RuntimeError, match="half of a file"):
            storage.create("a/one", fail)
        assert storage.names() == []

    def test_a_file_is_renamed_over_another(self, storage: Storage) -> None:
        storage.write("a/one", b"1")
        storage.write("b/two", b"22")
        storage.replace("a/one", "b/two")
        storage.replace("b/two", "c/d/three")
        assert storage.names() == ["c/d/three"]
        assert storage.read("c/d/three") == b"1"

    def test_what_is_removed_leaves_no_folder_after_pruning(self, storage: Storage) -> None:
        for name in ("top", "a/one", "a/b/two", "b/three"):
            storage.write(name, b"1")
        for name in ("none", "a/one", "a/b/two"):
            storage.remove(name)
        storage.prune("a")
        storage.prune("none")
        assert sorted(storage.top() or ()) == ["b", "top"]
        storage.remove_tree("b")
        storage.remove_tree("none")
        assert storage.names() == ["top"] == storage.top()

    @pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
    def test_a_name_that_leads_out_is_refused(self, storage: Storage, name: str) -> None:
        for call in (storage.read, storage.sha256, storage.remove, storage.status):
            with pytest.raises(StoreError, match="names a file that is not in it"):
                call(name)
        with pytest.raises(StoreError, match="names a file that is not in it"):
            storage.write(name, b"1")


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return storage_of(tmp_path / "store")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        object_client._s3.cache_clear()
        with s3_bucket("storage") as opened:
            yield opened


class TestObjectStorage(StorageContract):
    @pytest.fixture
    def storage(self, bucket: Bucket, request: pytest.FixtureRequest) -> Storage:
        digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
        return storage_of(location_of(bucket.address(f"of the team/{digest}")))
