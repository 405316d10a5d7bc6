"""Names from outside: each gives the right word or is refused; none leads out of its folder."""

import functools
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from writers import binary_record, csv_line, random_rows

from quickdraw_core.errors import InputError, StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.labels import challenge_words
from quickdraw_core.names import check_relative, check_word
from quickdraw_core.sources.file_names import word_of
from quickdraw_core.sources.find import find_sources
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.schema import part_path, quarantine_path
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import find_checkpoint

HEADER = b"countrycode,drawing,key_id,recognized,timestamp,word\n"


def csv_bytes(word: str) -> bytes:
    return HEADER + b"".join(map(csv_line, random_rows(np.random.default_rng(1), 5, word)))


BINARY = b"".join(map(binary_record, random_rows(np.random.default_rng(2), 5)))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cat (1).bin", "cat"),
        ("cat(2).csv.gz", "cat"),
        ("cat - Copy.csv", "cat"),
        ("full%2Fbinary%2Fcat.bin", "cat"),
        ("full/binary/hot dog.bin", "hot dog"),
        ("full_simplified_hot%20dog.ndjson", "hot dog"),
        ("cat.CSV", "cat"),
        ("The Eiffel Tower.NDJSON.GZ", "The Eiffel Tower"),
        ("_ice__cream.csv", "ice cream"),
        ("cafe\u0301.csv", "caf\u00e9"),
        ("..%2F..%2Fcat.bin", "cat"),
    ],
)
def test_names_that_downloads_have(tmp_path: Path, name: str, word: str) -> None:
    assert word_of(name) == word
    if name.lower().endswith((".csv", ".bin")) and "/" not in name and name[0] != ".":
        data = BINARY if name.endswith(".bin") else csv_bytes(word)
        (tmp_path / name).write_bytes(data)
        assert [file.word for file in find_sources(tmp_path)] == [word]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "it is empty"),
        ("..", "it begins with '.'"),
        (".cat", r"it begins with '.'; name the file after its class \(did you mean 'cat'"),
        ("-cat", "it begins with '-'"),
        ("full/binary/cat", "it holds '/'"),
        ("cat\\dog", "it holds '\\\\\\\\'"),
        ("cat?alt=media", r"it holds '\?'"),
        ("cat\n", r"it holds '\\n'"),
        ("cat\x00", r"it holds '\\x00'"),
        ("cat\u202e", r"it holds '\\u202e'"),
        ("caf\udce9", "no text in UTF-8"),
        ("caf\ufffd", "it holds '\ufffd'"),
        ("hot_dog", "it is written 'hot dog'"),
        ("c" * 201, "it has 201 bytes"),
    ],
)
def test_a_word_without_a_words_form_is_refused(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_word(word)


def test_words_of_every_script_are_words() -> None:
    for word in [*challenge_words(), "Bär", "猫", "قطة", "🐱", "می\u200cخواهم", "Johnny's $5"]:
        check_word(word)


def test_a_file_with_another_files_name_is_refused_with_the_word_meant(tmp_path: Path) -> None:
    (tmp_path / "catt:.csv").write_bytes(csv_bytes("cat"))
    with pytest.raises(InputError, match=r"catt:\.csv: 'catt:' cannot be .* \(did you mean 'cat'"):
        find_sources(tmp_path)
    (tmp_path / "._cat.csv").write_bytes(b"\0\5\x16\7")
    with pytest.raises(InputError, match=r"macOS keeps beside .*; did you mean cat\.csv\?"):
        find_sources(tmp_path / "._cat.csv")
    with pytest.raises(InputError, match=r"'\.\./x' cannot be the word"):
        find_sources("http://127.0.0.1:1/{word}.csv", ["../x"])


def test_a_copy_beside_its_original_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat.bin").write_bytes(BINARY)
    (tmp_path / "cat (1).bin").write_bytes(BINARY)
    with pytest.raises(InputError, match=r"two files hold 'cat': .*cat \(1\)\.bin and .*cat\.bin"):
        find_sources(tmp_path)


class _Listing(BaseHTTPRequestHandler):
    """A page with one link, whose target is a file of drawings."""

    def __init__(self, link: str, *args: object) -> None:
        self.link = link
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        page = f'<a href="{self.link}">x</a>'.encode()
        data, kind = (page, "text/html") if self.path == "/list/" else (BINARY, "binary")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listing_of(link: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Listing, link)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_listing_and_an_address_write_into_their_store_alone(tmp_path: Path) -> None:
    link = "x%2F..%2F..%2F..%2F..%2Foutside.bin"
    deep = tmp_path / "a" / "b"
    with listing_of(link) as server:
        for source, word in (
            (f"{server}/list/", "outside"),
            (f"{server}/o/full%2Fbinary%2Fcat.bin?alt=media", "cat"),
        ):
            store = deep / word
            ingest(IngestConfig(source=source, store=store, test_per_class=1))
            assert Store.open(store).label_map.words == (word,)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert all(
        path.is_relative_to(deep / "outside") or path.is_relative_to(deep / "cat")
        for path in tmp_path.rglob("*")
        if path.is_file()
    )


pieces = st.sampled_from(["..", ".", "/", "\\", "%2F", "%2e%2e", "%252F", "\0", "~", "=", " (1)"])
names = st.lists(pieces | st.text(max_size=5), max_size=8).map("".join)


@given(names, st.sampled_from([".csv", ".BIN", ".ndjson.gz"]))
def test_no_name_of_a_file_leads_out_of_the_store(name: str, ending: str) -> None:
    word = word_of(name + ending)
    try:
        check_word(word)
    except InputError:
        for path_of in (part_path, quarantine_path):
            with pytest.raises(InputError):
                path_of(word, 0)
        return
    for path_of in (part_path, quarantine_path):
        path = path_of(word, 0)
        check_relative(path)
        assert path.count("/") == 2


@given(names)
def test_no_name_leads_out_of_a_folder(name: str) -> None:
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer) / "1" / "2" / "store"
        inner.mkdir(parents=True)
        # UnicodeEncodeError: of a lone surrogate, which no file's name can hold.
        with suppress(StoreError, OSError, UnicodeEncodeError):
            LocalStorage(inner).write(name, b"x", sync=False)
        shutil.rmtree(inner)
        assert not [path for path in Path(outer).rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("field", "value"),
    [("path", "../../outside.parquet"), ("path", "/etc/passwd"), ("word", "../cat")],
)
def test_a_manifest_that_leads_out_of_its_store_is_damaged(
    tmp_path: Path, field: str, value: str
) -> None:
    (tmp_path / "cat.bin").write_bytes(BINARY)
    store = tmp_path / "store"
    ingest(IngestConfig(source=tmp_path / "cat.bin", store=store, test_per_class=1))
    manifest = json.loads((store / "manifest.json").read_text("utf-8"))
    manifest["files"][0][field] = value
    (store / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(StoreError, match=rf"damaged at files\.0\.{field}: "):
        Manifest.read(store)


def test_a_pointer_that_leads_out_of_its_run_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "step-1.pt").touch()
    (tmp_path / "checkpoints" / "step-2.pt").touch()
    for text, found in (("../step-1.pt", None), ("step-2.pt\n", "step-2.pt"), ("", None)):
        (tmp_path / "checkpoints" / "best").write_text(text, "utf-8")
        path = find_checkpoint(tmp_path, "best")
        assert (path and path.name) == found
