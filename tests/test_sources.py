"""Where drawings come from: local files, a real web server, real S3 and GCS clients.

The S3 server is moto's; the GCS one is `fake_gcs.py`. Everything listens on 127.0.0.1.
"""

import gzip
import os
import pickle
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surroundings import as_nobody
from web_server import RefusingHandler, Requests, serving, web_server
from writers import binary_record, csv_line, ndjson_line, random_rows

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import Layout
from quickdraw_core.launching.rendezvous import free_port
from quickdraw_core.sources import web_requests
from quickdraw_core.sources.file_names import word_of
from quickdraw_core.sources.files import SourceFile, Stamp
from quickdraw_core.sources.find import find_sources
from quickdraw_core.storage import object_client

HEADER = b"countrycode,drawing,key_id,recognized,timestamp,word\n"
TEST_FILE = b'key_id,countrycode,drawing\n7,US,"[[[1, 2], [3, 4]]]"\n'


def csv_bytes(word: str, rows: int = 3) -> bytes:
    drawn = random_rows(np.random.default_rng(len(word)), rows, word)
    return HEADER + b"".join(csv_line(row) for row in drawn)


def ndjson_bytes(word: str, rows: int = 3) -> bytes:
    drawn = random_rows(np.random.default_rng(len(word)), rows, word)
    return b"".join(ndjson_line(row) for row in drawn)


BINARY = b"".join(binary_record(row) for row in random_rows(np.random.default_rng(1), 3))
LARGE = csv_bytes("ice cream", 700)
"""Longer than the head and the tail of a stamp together."""

FILES = {
    "ice cream.csv": LARGE,
    "cat.ndjson": ndjson_bytes("cat"),
    "dog.ndjson.gz": gzip.compress(ndjson_bytes("dog", 400)) + gzip.compress(b"{}\n"),
    "sun.bin": BINARY,
}
"""Of each kind one, in the folder `raw` of every place."""


def write_files(folder: Path) -> Path:
    """`FILES` in `folder/raw`, among what is to be left out, and one more file below."""
    raw = folder / "raw"
    (raw / "more").mkdir(parents=True)
    ignored = {".moon.csv": b"", "moon.csv.part": b"", "README.md": b"", "more/star.csv": LARGE}
    for name, content in (FILES | ignored).items():
        (raw / name).write_bytes(content)
    with zipfile.ZipFile(raw / "more" / "all.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"stored/{name}", content)
            archive.writestr(f"deflated/{name}", content, zipfile.ZIP_DEFLATED)
    return folder


# --- places ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder of `FILES` somewhere; url puts a path below it into an address."""

    url: Callable[[str], str]
    ranges: bool = True


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds `raw`. Not to be changed."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(autouse=True)
def _no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own accounts, and no waiting for a cloud's metadata server."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("HOME", str(tmp_path))
    object_client._s3.cache_clear()
    object_client._gcs.cache_clear()


@pytest.fixture(scope="module")
def s3_endpoint(files: Path) -> Iterator[str]:
    """host:port of an S3 server whose bucket `drawings` holds the files."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{endpoint}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket="drawings")
        for path in sorted(path for path in files.rglob("*") if path.is_file()):
            key = path.relative_to(files).as_posix()
            client.put_object(Bucket="drawings", Key=key, Body=path.read_bytes())
        client.close()
        yield endpoint
    finally:
        server.stop()


@pytest.fixture(scope="module")
def gcs_endpoint(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a GCS server whose bucket `drawings` holds the files."""
    root = tmp_path_factory.mktemp("gcs")
    (root / "drawings").symlink_to(files)
    command = [sys.executable, str(Path(__file__).with_name("fake_gcs.py")), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


PLACES = ("local", "web", "web without ranges", "s3", "gs")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, files: Path) -> Iterator[Place]:
    """Each place in turn."""
    kind = request.param
    if kind == "local":
        yield Place(lambda path: str(files / path))
    elif kind.startswith("web"):
        ranges = kind == "web"
        with web_server(files, Requests(ranges=ranges)) as address:
            yield Place(lambda path: f"{address}/{path}", ranges)
    else:
        endpoint = request.getfixturevalue("s3_endpoint" if kind == "s3" else "gcs_endpoint")
        bucket = "drawings" if kind == "s3" else "anonymous@drawings"
        options = f"?endpoint_override={endpoint}&scheme=http"
        yield Place(lambda path: f"{kind}://{bucket}/{path}{options}")


def by_name(sources: list[SourceFile]) -> dict[str, SourceFile]:
    return {source.name: source for source in sources}


def content(name: str) -> bytes:
    stored = FILES[name]
    return gzip.decompress(stored) if name.endswith(".gz") else stored


# --- promises that hold in every place ---------------------------------------------------------


def test_a_folder_gives_its_files_sorted_by_word(place: Place) -> None:
    found = find_sources(place.url("raw/"))
    assert [(source.word, source.name) for source in found] == [
        ("cat", "cat.ndjson"),
        ("dog", "dog.ndjson.gz"),
        ("ice cream", "ice cream.csv"),
        ("sun", "sun.bin"),
    ]
    assert [source.format.layout for source in found] == [
        Layout.NDJSON,
        Layout.NDJSON,
        Layout.CSV,
        Layout.BINARY,
    ]
    assert [source.compressed for source in found] == [False, True, False, False]
    sizes = {source.name: source.stamp.size_bytes for source in found}
    assert sizes == {name: len(stored) for name, stored in FILES.items()}


def test_every_byte_arrives(place: Place) -> None:
    for name, source in by_name(find_sources(place.url("raw/"))).items():
        assert source.sequential == (source.compressed or not place.ranges)
        travelled = pickle.loads(pickle.dumps(source))
        assert travelled == source
        with travelled.open() as file:
            assert file.read() == content(name)
            assert file.read(1) == b""


def test_a_block_is_filled_whole_from_any_byte_on(place: Place) -> None:
    (source,) = find_sources(
        place.url("raw/ice%20cream.csv" if "://" in place.url("") else "raw/ice cream.csv")
    )
    rng = random.Random(3)
    with source.open() as file:
        for _ in range(8):
            start, size = rng.randrange(len(LARGE) + 9), rng.randrange(1, 200_000)
            block = bytearray(size)
            if source.sequential:
                file.close()
                file = source.open()
                file.read(start)
            else:
                assert file.seek(start) == file.tell() == start
            count = file.readinto(block)  # type: ignore[attr-defined]
            assert block[:count] == LARGE[start : start + size]
        file.close()


def test_one_file_and_chosen_classes(place: Place) -> None:
    (cat,) = find_sources(place.url("raw/cat.ndjson"))
    assert (cat.word, cat.name) == ("cat", "cat.ndjson")
    chosen = find_sources(place.url("raw/"), ["ice_cream", "cat"])
    assert [source.word for source in chosen] == ["cat", "ice cream"]
    with pytest.raises(InputError, match=r"no class 'catt' in .*raw.*: did you mean 'cat'\?"):
        find_sources(place.url("raw/"), ["catt"])


def test_a_glob(place: Place) -> None:
    found = find_sources(place.url("raw/*.ndjson*"))
    assert [source.name for source in found] == ["cat.ndjson", "dog.ndjson.gz"]
    assert [s.name for s in find_sources(place.url("raw/[a-d]*"))] == [
        "cat.ndjson",
        "dog.ndjson.gz",
    ]
    with pytest.raises(InputError, match=r"no file matches .*raw/\*\.zip: found "):
        find_sources(place.url("raw/*.zip"))


def test_a_glob_over_folders(place: Place) -> None:
    if place.url("").startswith("http"):
        with pytest.raises(InputError, match="a web page lists one folder"):
            find_sources(place.url("**/*.csv"))
        return
    for pattern in ("**/*.csv", "raw/**/*.csv"):
        words = [source.word for source in find_sources(place.url(pattern))]
        assert words == ["ice cream", "star"], pattern
    assert [source.word for source in find_sources(place.url("*/more/*.csv"))] == ["star"]


def test_a_stamp_is_the_same_until_the_file_changes(place: Place) -> None:
    for source in find_sources(place.url("raw/")):
        assert source.current_stamp() == source.stamp
        assert source.stamp.mtime_ns > 1_600_000_000_000_000_000


def test_what_is_not_there_is_named(place: Place) -> None:
    for path in ("raw/nothing.csv", "nothing/"):
        with pytest.raises(InputError, match="nothing") as caught:
            find_sources(place.url(path))
        assert "endpoint_override" not in str(caught.value)
        assert re.search("not there|no folder or file", str(caught.value))


@pytest.mark.parametrize("packed", ["stored", "deflated"])
def test_a_zip_file_is_read_member_by_member(place: Place, packed: str) -> None:
    url = place.url(f"raw/more/all.zip/{packed}")
    if not place.ranges:
        with pytest.raises(InputError, match=r"all\.zip: a zip file is read from its end"):
            find_sources(url)
        return
    found = by_name(find_sources(url))
    assert set(found) == set(FILES)
    for name, source in found.items():
        assert source.address.endswith(f"raw/more/all.zip/{packed}/{name}")
        assert source.sequential == (source.compressed or packed == "deflated")
        assert source.current_stamp() == source.stamp
        with pickle.loads(pickle.dumps(source)).open() as file:
            assert file.read() == content(name)
    large = found["ice cream.csv"]
    if not large.sequential:
        with large.open() as file:
            for start in (len(LARGE) - 70_000, 5):
                assert file.seek(start) == start
                assert file.read(80_000) == LARGE[start : start + 80_000]
    (cat,) = find_sources(place.url(f"raw/more/all.zip/{packed}/c*"))
    assert cat == found["cat.ndjson"]
    assert find_sources(place.url(f"raw/more/all.zip/{packed}/cat.ndjson")) == [cat]
    with pytest.raises(InputError, match=r"two files hold .*all.zip/stored/ice cream.csv and"):
        find_sources(place.url("raw/more/all.zip"))


# --- local files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("sun.csv", "sun"),
        ("The_Great_Wall_of_China.csv.gz", "The Great Wall of China"),
        ("ice cream.ndjson", "ice cream"),
        ("full_simplified_hot dog.ndjson", "hot dog"),
        ("full_raw_cat.ndjson.gz", "cat"),
        ("full_binary_cat.bin", "cat"),
        ("t-shirt.jsonl", "t-shirt"),
    ],
)
def test_the_word_of_a_name(name: str, word: str) -> None:
    assert word_of(name) == word


def test_several_sources_make_one_list(files: Path, tmp_path: Path) -> None:
    (tmp_path / "ant.csv").write_bytes(csv_bytes("ant"))
    sources = [tmp_path, files / "raw/cat.ndjson", f"file://{files}/raw/more", str(tmp_path)]
    assert [source.word for source in find_sources(sources)] == ["ant", "cat", "star"]
    assert all(Path(source.location).is_absolute() for source in find_sources(sources))


def test_a_plain_local_file_is_the_bare_file_of_the_system(files: Path) -> None:
    import io

    (source,) = find_sources(files / "raw/ice cream.csv")
    with source.open() as file:
        assert type(file) is io.FileIO


def test_a_test_file_has_no_word(tmp_path: Path) -> None:
    path = tmp_path / "test_simplified.csv"
    path.write_bytes(TEST_FILE)
    (source,) = find_sources(path)
    assert (source.word, source.format.data_offset) == (None, 27)
    (tmp_path / "sun.csv").write_bytes(csv_bytes("sun"))
    with pytest.raises(
        InputError, match=r"test_simplified.csv is a test file.*sun.csv is a train"
    ):
        find_sources(tmp_path)
    (tmp_path / "sun.csv").write_bytes(TEST_FILE)
    with pytest.raises(InputError, match="is a test file too"):
        find_sources(tmp_path)


def test_no_word_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "hot_dog.csv").write_bytes(csv_bytes("hot dog"))
    (tmp_path / "full_simplified_hot dog.ndjson").write_bytes(ndjson_bytes("hot dog"))
    (tmp_path / "sun.csv").write_bytes(csv_bytes("sun"))
    with pytest.raises(InputError, match=r"two files hold 'hot dog': .*ndjson and .*csv"):
        find_sources(tmp_path)
    assert len(find_sources(tmp_path, ["sun"])) == 1


def test_a_folder_without_drawings_says_where_they_are(files: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"found raw; did you mean {files}/raw\?"):
        find_sources(files)
    with pytest.raises(InputError, match=r"found nothing; files end in \.csv"):
        find_sources(tmp_path)


def test_a_missing_folder_says_what_is_there(files: Path) -> None:
    with pytest.raises(InputError, match=r"no folder or file .*/rwa: .* holds raw; give"):
        find_sources(files / "rwa")
    with pytest.raises(InputError, match="is missing too"):
        find_sources(files / "rwa/x/y")
    with pytest.raises(InputError, match=r"README.md is a file without a known ending"):
        find_sources(files / "raw/README.md")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no source was given"),
        ("ftp://host/x.csv", "cannot read from ftp://; give a local path or one of s3://"),
        ("s3://KEY:hunter2@bucket/raw", "holds a key in the address"),
        ("s3:///raw", "names no bucket"),
        ("s3://bucket/raw?endpoint=x", "no option 'endpoint' .* did you mean 'endpoint_override'"),
        ("gs://anonymous@b/x?retry_limit_seconds=x", "must be a number, found x"),
        ("https://user:hunter2@host/sun.csv", "holds a password in the address"),
        ("https://host/{word}.ndjson", "is a template and no classes were given"),
    ],
)
def test_a_source_that_means_nothing_is_refused(source: str | list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_sources(source)
    assert "hunter2" not in str(caught.value)


def test_an_unreadable_file_is_named() -> None:
    with as_nobody() as folder:
        path = folder / "sun.csv"
        path.write_bytes(csv_bytes("sun"))
        path.chmod(0)
        with pytest.raises(InputError, match=r"cannot read .*sun.csv: .*; check its permissions"):
            find_sources(path)


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sun.csv"
    path.write_bytes(csv_bytes("sun"))
    (source,) = find_sources(path)
    path.unlink()
    for action in (source.open, source.current_stamp):
        with pytest.raises(InputError, match=r"cannot read .*sun\.csv: No such file"):
            action()


def test_an_empty_file_among_many_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat.csv").write_bytes(csv_bytes("cat"))
    (tmp_path / "sun.ndjson.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match=r"/sun\.ndjson\.gz is empty"):
        find_sources(tmp_path)
    assert len(find_sources(tmp_path, ["cat"])) == 1


def read_bytes() -> int:
    """What this process has read so far, of files of every kind."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["rchar"])


def test_of_many_local_files_little_is_read(tmp_path: Path) -> None:
    for i in range(340):
        (tmp_path / f"word{i}.csv").write_bytes(LARGE * 4)
    before = read_bytes()
    assert len(find_sources(tmp_path)) == 340
    assert read_bytes() - before < 340 * len(LARGE)


def change_time(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("name", ["sun.csv", "sun.csv.gz"])
@pytest.mark.parametrize("change", ["size", "time", "head", "tail"])
def test_a_stamp_notices_a_change(change: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    stored = gzip.compress(LARGE) if name.endswith(".gz") else LARGE
    path.write_bytes(stored)
    (source,) = find_sources(path)
    mtime_ns = source.stamp.mtime_ns
    changed = {
        "size": stored + b"\n",
        "time": stored,
        "head": stored[:60_000] + b"\x00" + stored[60_001:],
        "tail": stored[:-60_000] + b"\x00" + stored[-59_999:],
    }[change]
    path.write_bytes(changed)
    os.utime(path, ns=(mtime_ns, mtime_ns + (change == "time")))
    assert source.current_stamp() != source.stamp
    path.write_bytes(stored)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    assert source.current_stamp() == source.stamp


# --- gzip --------------------------------------------------------------------------------------

PACKED_FIRST = gzip.compress(ndjson_bytes("cat", 60))
PACKED = PACKED_FIRST + gzip.compress(ndjson_bytes("cat", 200))


def read_all(path: Path) -> bytes:
    (source,) = find_sources(path)
    with source.open() as file:
        return file.read()


@given(st.integers(0, len(PACKED) - 1))
@settings(max_examples=60, deadline=None)
def test_a_gzip_cut_short_says_so(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "cat.ndjson.gz"
    path.write_bytes(PACKED[:cut])
    if cut == len(PACKED_FIRST):  # between two members: a whole file of its own
        assert read_all(path) == ndjson_bytes("cat", 60)
        return
    with pytest.raises(InputError) as caught:
        read_all(path)
    if cut >= 3:
        assert "cat.ndjson.gz ends in the middle of its compressed data" in str(caught.value)
    path.unlink()


def test_a_large_gzip_cut_short_is_noticed_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "cat.ndjson.gz"
    path.write_bytes(gzip.compress(ndjson_bytes("cat", 900))[:-1000])
    (source,) = find_sources(path)
    block = bytearray(1 << 16)
    with source.open() as file:
        assert file.readinto(block) == len(block)  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="ends in the middle of its compressed data"):
            file.read()


def test_a_damaged_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cat.ndjson.gz"
    large = gzip.compress(ndjson_bytes("cat", 900))
    for damaged, told in (
        (PACKED[:-6] + b"\x00\x00" + PACKED[-4:], "is damaged, its gzip data say"),  # checksum
        (large[:-6] + b"\x00\x00" + large[-4:], "is damaged, its gzip data say"),
        (large + b"garbage" * 9, "is damaged, its gzip data say"),
        # What comes behind may read as data without an end.
        (PACKED[:5000] + bytes(200) + PACKED[5200:], "is damaged|ends in the middle"),
        (large[:90_000] + bytes(200) + large[90_200:], "is damaged|ends in the middle"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"cat\.ndjson\.gz ({told}).*fetch it again"):
            read_all(path)


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "cat.ndjson").write_bytes(gzip.compress(ndjson_bytes("cat")))
    (tmp_path / "dog.csv.gz").write_bytes(csv_bytes("dog"))  # unpacked on its way
    cat, dog = find_sources(tmp_path)
    assert (cat.compressed, cat.sequential) == (True, True)
    assert (dog.compressed, dog.sequential) == (False, False)
    with cat.open() as file:
        assert file.read() == ndjson_bytes("cat")


# --- web ---------------------------------------------------------------------------------------


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_requests, "_PAUSE_SECONDS", 0.01)


def test_a_template_takes_the_words(files: Path) -> None:
    with web_server(files, Requests()) as address:
        found = find_sources(f"{address}/raw/{{word}}.csv", ["ice_cream"])
        assert [(s.word, s.location) for s in found] == [
            ("ice cream", f"{address}/raw/ice%20cream.csv")
        ]
        with pytest.raises(InputError, match=r"not there.*; of the class, did you mean 'ice cr"):
            find_sources(f"{address}/raw/{{word}}.csv", ["ice_craem"])
        with pytest.raises(InputError, match=r"/raw/sun.csv: it is not there; correct the add"):
            find_sources(f"{address}/raw/{{word}}.csv", ["sun"])


def test_a_page_that_is_no_listing(files: Path) -> None:
    with web_server(files, Requests()) as address:
        with pytest.raises(InputError, match=r"README\.md is neither a file of drawings.*found"):
            find_sources(f"{address}/raw/README.md")
        with pytest.raises(
            InputError, match=r"no file of drawings in http.*: found nothing; files"
        ):
            find_sources(address)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize(
    ("ranges", "looks", "cuts"),
    [
        (True, 4, [True, False, True, False, True, True, False]),  # head, tail, then the file
        (False, 1, [False, True, True, False]),  # no tail; each time from the beginning
    ],
)
def test_a_cut_connection_is_continued(
    files: Path, ranges: bool, looks: int, cuts: list[bool]
) -> None:
    left = iter(cuts)
    behaviour = Requests(ranges, cut=lambda: next(left))
    with web_server(files, behaviour) as address:
        (source,) = find_sources(f"{address}/raw/ice%20cream.csv")
        assert len(behaviour.seen) == looks
        with source.open() as file:
            block = bytearray(len(LARGE) + 5)
            assert file.readinto(block) == len(LARGE)  # type: ignore[attr-defined]
            assert block[: len(LARGE)] == LARGE
    assert len(behaviour.seen) == len(cuts)
    starts = [int(re.findall(r"bytes=(\d+)", asked)[0]) for asked in behaviour.seen[looks:]]
    half = len(LARGE) // 2
    assert starts == [0, half, half + (len(LARGE) - half) // 2 if ranges else half]


@pytest.mark.usefixtures("_hasty")
def test_a_server_that_always_cuts_is_given_up(files: Path) -> None:
    with (
        web_server(files, Requests(ranges=False)) as good,
        web_server(files, Requests(ranges=False, cut=lambda: True)) as bad,
    ):
        (source,) = find_sources(f"{good}/raw/ice%20cream.csv")
        broken = pickle.loads(pickle.dumps(source).replace(good.encode(), bad.encode()))
        with (
            broken.open() as file,
            pytest.raises(InputError, match="the connection was cut, after"),
        ):
            file.read()


def test_two_versions_never_mix(files: Path) -> None:
    behaviour = Requests()
    with web_server(files, behaviour) as address:
        (source,) = find_sources(f"{address}/raw/ice%20cream.csv")
        with source.open() as file:
            file.read(10)
            behaviour.etag = '"2"'
            file.seek(100)
            with pytest.raises(InputError, match="changed while it was read"):
                file.read(10)
        assert source.current_stamp() != source.stamp


def test_an_error_shows_no_signature(files: Path) -> None:
    with (
        web_server(files, Requests()) as address,
        pytest.raises(InputError, match=r"/raw/no\.csv: it is not there") as caught,
    ):
        find_sources(f"{address}/raw/no.csv?signature=abc")
    assert "abc" not in str(caught.value)


@pytest.mark.usefixtures("_hasty")
def test_a_dead_server_is_told_in_good_time() -> None:
    port = free_port()
    options = f"endpoint_override=127.0.0.1:{port}&scheme=http"
    for source, message in (
        (f"http://127.0.0.1:{port}/sun.csv", "nothing listens there"),
        (f"s3://drawings/raw?{options}", "the store does not answer; check its address"),
        (
            f"gs://anonymous@drawings/raw?{options}&retry_limit_seconds=1",
            "the store does not answer; check its address",
        ),
    ):
        with pytest.raises(InputError, match=message):
            find_sources(source)


# --- object stores -----------------------------------------------------------------------------


def test_s3_takes_its_endpoint_from_the_environment(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_endpoint}")
    (source,) = find_sources("s3://drawings/raw/ice cream.csv")
    assert source.location == "s3://drawings/raw/ice%20cream.csv"
    assert source.stamp == source.current_stamp()
    with source.open() as file:
        assert file.read() == LARGE
    (same,) = find_sources(["s3://drawings/raw/ice cream.csv", "s3://drawings/raw/*.csv"])
    assert same == source


def test_a_missing_bucket_is_told(s3_endpoint: str, gcs_endpoint: str) -> None:
    with pytest.raises(InputError, match="cannot read s3://nothing/raw: there is no such bucket"):
        find_sources(f"s3://nothing/raw?endpoint_override={s3_endpoint}&scheme=http")
    options = f"?endpoint_override={gcs_endpoint}&scheme=http"
    with pytest.raises(
        InputError, match="cannot read gs://anonymous@nothing/raw: it is not there"
    ):
        find_sources(f"gs://anonymous@nothing/raw{options}")


def test_refused_access_says_where_credentials_go(gcs_endpoint: str) -> None:
    options = f"?endpoint_override={gcs_endpoint}&scheme=http"
    with pytest.raises(InputError, match=r"access is refused; .*GOOGLE_APPLICATION_CREDENTIALS"):
        find_sources(f"gs://anonymous@private/raw{options}")


def test_s3_without_rights_says_where_credentials_go(tmp_path: Path) -> None:
    with serving(RefusingHandler) as port:
        options = f"?endpoint_override=127.0.0.1:{port}&scheme=http&anonymous=true"
        with pytest.raises(InputError, match=r"access is refused; set AWS_ACCESS_KEY_ID"):
            find_sources(f"s3://drawings/raw{options}")


def test_stamps_are_values() -> None:
    assert Stamp(1, 2, "a") == Stamp(1, 2, "a") != Stamp(1, 2, "b")
