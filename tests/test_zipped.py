"""Zip files as Kaggle serves them, and what looks like drawings but is not read."""

import gzip
import io
import random
import re
import shutil
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from row_files import HEADER, CountedSource, short_rows
from writers import csv_line, random_rows

from quickdraw_core.challenge.test_file import open_test_file
from quickdraw_core.errors import InputError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import IngestResult, ingest
from quickdraw_core.ingest.result import LeftOutError
from quickdraw_core.ingest.summary import ingest_facts
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.reading.row_reader import read_windows, window_groups
from quickdraw_core.reading.windows import STRIDE, RowSelection
from quickdraw_core.sources import zipped as zipped_module
from quickdraw_core.sources.file_names import why_unread
from quickdraw_core.sources.find import find_readable, find_sources
from quickdraw_core.store.manifest import Manifest

WORDS = ("cat", "ice cream", "sun")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))


def csv_of(word: str, rows: int = 200) -> bytes:
    drawn = random_rows(np.random.default_rng(sum(word.encode())), rows, word)
    return HEADER + b"".join(map(csv_line, drawn))


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def run(source: Path, store: Path, **options: object) -> IngestResult:
    values = {"source": source, "store": store, "workers": 1, "test_per_class": 5} | options
    return ingest(IngestConfig.parse(values))


def test_a_zip_file_gives_the_store_of_its_unpacked_files(tmp_path: Path) -> None:
    members = {f"{word}.csv": csv_of(word) for word in WORDS}
    for name, data in members.items():
        path = tmp_path / "train_simplified" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    plain = run(tmp_path / "train_simplified", tmp_path / "plain")
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = zipped(tmp_path / "train_simplified.zip", members, method)
        store = tmp_path / f"store-{method}"
        assert run(path, store).fingerprint == plain.fingerprint
        assert run(path, store).skipped
        locations = [source.location for source in Manifest.read(store).sources]
        assert locations == [f"{path}/{name}" for name in members]
    # Another content of one member: the file changed, and its classes are read again.
    zipped(path, members | {"sun.csv": csv_of("sun", 201)})
    assert run(path, store).rows_read == plain.rows_read + 1


def test_a_window_of_a_stored_member_costs_its_own_bytes(tmp_path: Path) -> None:
    lines = short_rows(8 * STRIDE)
    data = HEADER + b"".join(lines)
    path = zipped(tmp_path / "all.zip", {"a.csv": data, "cat.csv": data}, zipfile.ZIP_STORED)
    (source,) = find_sources(path, ["cat"])
    counted = CountedSource(source)
    index = index_rows(counted)  # type: ignore[arg-type]
    selection = RowSelection("spread", 1, 100)
    (group,) = window_groups(counted, index, selection, 0)  # type: ignore[arg-type]
    counted.bytes_read = 0
    (found,) = read_windows(group)
    first = 10_000_000 + found.window.skiprows
    assert found.rows.key_ids.tolist() == list(range(first, first + 100))
    assert counted.bytes_read <= 3 * STRIDE * len(lines[0])


def test_a_packed_member_in_an_object_store_is_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HEADER + b"".join(short_rows(STRIDE)) + np.random.default_rng(0).bytes(3 << 20)
    (source,) = find_sources(zipped(tmp_path / "all.zip", {"cat.csv": data}))
    asked: list[int] = []

    class Requests(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            asked.append(len(buffer))
            return super().readinto(buffer) or 0

    monkeypatch.setattr(zipped_module, "open_stored", lambda _, **__: Requests(source.location))
    with replace(source, location="s3://bucket/all.zip").open() as file:
        assert file.read() == data
    assert len(asked) == 1


def test_members_of_every_layout_are_found(tmp_path: Path) -> None:
    cat, test = csv_of("cat"), b'key_id,countrycode,drawing\n7,US,"[[[1, 2], [3, 4]]]"\n'
    everything = zipped(
        tmp_path / "quickdraw-doodle-recognition.zip",
        {
            "train_simplified/cat.csv": cat,
            "train_raw/cat.csv": cat,
            "test_simplified.csv": test,
            "__MACOSX/._cat.csv": b"\0",
            "sample_submission.csv": b"key_id,word\n7,cat\n",
        },
    )
    assert [s.name for s in find_sources(everything / "train_simplified")] == ["cat.csv"]
    assert open_test_file(str(everything / "test_simplified.csv")).word is None
    single = zipped(tmp_path / "test_simplified.csv.zip", {"test_simplified.csv": test})
    assert open_test_file(str(single)).word is None
    with pytest.raises(InputError, match=r"no file of drawings in .*\.zip/nothing: found train_"):
        find_sources(everything / "nothing")
    inside = zipped(tmp_path / "in" / "cat.csv.zip", {"cat.csv": cat})
    packed = zipped(tmp_path / "in" / "sun.csv.zip", {"sun.csv.gz": gzip.compress(csv_of("sun"))})
    assert [s.word for s in find_sources(inside.parent)] == ["cat", "sun"]
    assert [s.word for s in find_sources(inside.parent / "*.zip")] == ["cat", "sun"]
    with find_sources(packed)[0].open() as file:
        assert file.read() == csv_of("sun")
    inside.unlink()
    packed.unlink()
    copied = shutil.copy(everything, inside.parent)
    with pytest.raises(InputError, match=rf"did you mean {copied}\?"):
        find_sources(inside.parent)


def with_flag(data: bytes, flag: int) -> bytes:
    """A zip file whose first member has a flag in the directory."""
    at = data.index(b"PK\x01\x02") + 8
    return data[:at] + bytes([data[at] | flag]) + data[at + 1 :]


def test_a_damaged_directory_is_no_traceback(tmp_path: Path) -> None:
    data = csv_of("cat", 5)
    path = zipped(tmp_path / "all.zip", {"dög.csv": data, "cat.csv": data})
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    chance = random.Random(4)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(directory, len(whole))] = chance.randrange(256)
        path.write_bytes(damaged)
        with suppress(InputError):
            for source in find_sources(path):
                with source.open() as file:
                    file.read()


def test_zip_files_that_cannot_be_read_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = zipped(tmp_path / "all.zip", {"cat.csv": csv_of("cat", 2_000)})
    whole = path.read_bytes()
    middle = len(whole) // 2
    faults = {
        "ends in the middle of a zip file, without its directory: .* fetch it again": whole[:-40],
        "all.zip/cat.csv is encrypted; unpack": with_flag(whole, 1),
        "all.zip/cat.csv is not where the zip file's directory says": b"XX" + whole[2:],
    }  # fmt: skip
    for message, data in faults.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            find_sources(path)
    zipped(path, {"cat.csv": csv_of("cat")}, zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match=r"packed by zip's method 12, .* unpack the zip file"):
        find_sources(path)
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    (source,) = find_sources(path)
    with pytest.raises(InputError, match=r"all\.zip/cat\.csv is damaged, its zip data say"):
        index_rows(source)


# What is not read is named.

NAMES = {
    "cat.csv.part": "an unfinished download",
    ".cat.ndjson.part": "an unfinished download",
    "cat.csv.crdownload": "an unfinished download",
    "cat.json": "another form than those read",
    "full_numpy_bitmap_cat.npy": "another form than those read",
    "cat.npz": "another form than those read",
    "cat.txt": "another form than those read",
    "train_simplified.zip": "a zip file of many; give it by itself",
    "cat.csv.bz2": "packed in a way that is not read; unpack it",
    "train.tar": "packed in a way that is not read; unpack it",
    "cat.csv~": "another ending than those read",
    "cat.csv.bak": "another ending than those read",
    "README.md": None,
    "notes.txt": None,
    ".DS_Store": None,
    "._cat.csv": None,
    "LICENSE": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_looks_like_drawings_says_why_it_is_not_read(name: str) -> None:
    assert why_unread(name) == NAMES[name]


def test_what_is_not_read_of_zip_files_in_a_folder_is_named(tmp_path: Path) -> None:
    zipped(tmp_path / "a.csv.zip", {"cat.csv": csv_of("cat"), "hat.csv.bz2": b""})
    for source in (tmp_path, tmp_path / "*.zip"):
        assert [text.split()[0] for text in find_readable(source).unread] == ["hat.csv.bz2"]


def test_what_looks_like_a_class_and_is_not_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "owl.csv").mkdir(parents=True)
    (folder / "more").mkdir()
    (folder / "cat.csv").write_bytes(csv_of("cat"))
    (folder / "hat.csv.part").write_bytes(csv_of("hat"))
    (folder / "README.md").write_text("cat.csv")
    result = run(folder, tmp_path / "store")
    assert result.unread == ("hat.csv.part (an unfinished download)", "owl.csv (a folder)")
    assert ingest_facts(result)["not read"] == ", ".join(result.unread)
    assert run(folder, tmp_path / "store").unread == result.unread
    assert find_readable(folder / "*").unread == list(result.unread)
    # Of chosen classes, what is missing is said to be there in another form.
    assert not find_readable(folder, ["cat"]).unread
    with pytest.raises(InputError, match=r"no class 'hat' .* not read there: hat\.csv\.part"):
        find_readable(folder, ["cat", "hat"])
    for name in (".owl.ndjson.part", "full_raw_bat.ndjson.part", "full_numpy_bitmap_bat.npy"):
        (folder / name).write_bytes(b"")
        word = "owl" if "owl" in name else "bat"
        with pytest.raises(InputError, match=rf"not read there: .*{re.escape(name)} \("):
            find_readable(folder, ["cat", word])
        (folder / name).unlink()
    # A link to nowhere is a file that cannot be read.
    (folder / "dog.csv").symlink_to("/nowhere/dog.csv")
    with pytest.raises(LeftOutError, match=r"dog\.csv is a link to /nowhere/dog\.csv, which is"):
        run(folder, tmp_path / "store")
    for source in (folder / "dog.csv", folder / "d*.csv"):
        with pytest.raises(InputError, match=r"dog\.csv is a link to /nowhere/dog\.csv, which is"):
            find_sources(source)
