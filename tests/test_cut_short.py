"""Files that end in the middle of a row, as a download that broke off leaves them."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from row_files import HEADER, source_of
from writers import Row, binary_record, csv_line, ndjson_line, random_rows

from quickdraw_core.errors import InputError
from quickdraw_core.formats.rows import CUT_SHORT
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import IngestResult, ingest
from quickdraw_core.ingest.scan import scan
from quickdraw_core.ingest.summary import ingest_facts
from quickdraw_core.reading import first_read
from quickdraw_core.reading import row_reader as reading
from quickdraw_core.reading.first_read import found_windows, unread
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.verify import verify_store

ROW = Row(
    5_201_136_883_597_312, "US", True, 1_488_000_000_123_456, "ice cream", [([1, 20], [3, 4])]
)
RAW_CSV = b'US,"[[[1.5, 20], [3, 4], [0, 9]]]",%d,True,2017-03-01 00:00:00.5,cat\n'
RAW_NDJSON = (
    b'{"word":"cat","countrycode":"US","timestamp":"2017-03-01 00:00:00.5 UTC","recognized":true,'
    b'"key_id":"%d","drawing":[[[1.5,20],[3,4],[0,9]]]}\n'
)
ROWS = 300


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "head", "row"),
    [
        ("ice cream.csv", HEADER, csv_line(ROW)),
        ("ice cream.ndjson", b"", ndjson_line(ROW)),
        ("ice cream.bin", b"", binary_record(ROW)),
        ("cat.csv", HEADER, RAW_CSV % 7),
        ("cat.ndjson", b"", RAW_NDJSON % 7),
        ("test_simplified.csv", b"key_id,countrycode,drawing\n", b'7,US,"[[[1], [2]]]"\n'),
    ],
)
def test_a_file_is_cut_wherever_in_its_last_row_it_ends_but_before_a_line_feed(
    name: str, head: bytes, row: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    whole = [len(row)] if name.endswith(".bin") else [len(row) - 1, len(row)]
    for end in range(1, len(row) + 1):
        path.write_bytes(head + row + row[:end])
        index = index_rows(source_of(path))
        assert (index.rows, index.cut) == (2, "" if end in whole else "a row"), end


@pytest.mark.parametrize(
    ("name", "head", "row", "said", "instead"),
    [
        ("ice cream.csv", HEADER, csv_line(ROW), b"[3, 4]", b"[3, 400]"),
        ("ice cream.csv", HEADER, csv_line(ROW), b",ice", b",nice"),
        ("ice cream.ndjson", b"", ndjson_line(ROW), b'"ice', b'"nice'),
        ("cat.ndjson", b"", RAW_NDJSON % 7, b"[0,9]", b"[0]"),
        (
            "test_simplified.csv",
            b"key_id,countrycode,drawing\n",
            b'7,US,"[[[1], [2]]]"\n',
            b"7",
            b"x",
        ),
    ],
)
def test_a_last_row_that_is_wrong_but_whole_is_not_cut(
    name: str, head: bytes, row: bytes, said: bytes, instead: bytes, tmp_path: Path
) -> None:
    assert said in row
    path = tmp_path / name
    path.write_bytes(head + row + row.replace(said, instead).rstrip(b"\n"))
    index = index_rows(source_of(path))
    assert (index.rows, index.cut) == (2, "")


def simplified(rows: list[Row], name: str) -> bytes:
    if name.startswith("csv"):
        return HEADER + b"".join(map(csv_line, rows))
    return b"".join(map(ndjson_line if name.startswith("ndjson") else binary_record, rows))


def raw(name: str) -> bytes:
    row, head = (RAW_CSV, HEADER) if name.startswith("csv") else (RAW_NDJSON, b"")
    return head + b"".join(row % (number << 21) for number in range(1, ROWS + 1))


CUTS = {
    "a CSV": ("csv", False),
    "an ndjson": ("ndjson", False),
    "a binary file": ("bin", False),
    "a raw CSV": ("csv", True),
    "a raw ndjson": ("ndjson", True),
    "what was compressed after it was cut": ("csv.gz", False),
    "what was cut after it was compressed": ("ndjson.gz", False),
}


@pytest.fixture(params=CUTS)
def cut_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    form, is_raw = CUTS[request.param]
    rows = random_rows(np.random.default_rng(3), ROWS)
    data = raw(form) if is_raw else simplified(rows, form)
    if form == "ndjson.gz":
        data = gzip.compress(data)
        data = data[: len(data) * 9 // 10]
    else:
        data = data[:-9]
        data = gzip.compress(data) if form == "csv.gz" else data
    path = tmp_path / "in" / f"cat.{form}"
    path.parent.mkdir()
    path.write_bytes(data)
    (path.parent / "dog.csv").write_bytes(
        HEADER + b"".join(map(csv_line, random_rows(np.random.default_rng(4), ROWS, "dog")))
    )
    return path


def run(source: Path, store: Path, **options: object) -> IngestResult:
    values = {"source": source, "store": store, "workers": 1, "test_per_class": 5} | options
    return ingest(IngestConfig.parse(values))


def test_a_cut_file_is_refused_or_with_allow_cut_kept_and_named(
    cut_file: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with pytest.raises(InputError, match=rf"{cut_file.name} ends in the middle of .* --allow-cut"):
        run(cut_file.parent, store)
    kept = run(cut_file.parent, store, allow_cut=True, max_rejected=0)
    assert kept.cut == (cut_file.name,)
    assert cut_file.name in ingest_facts(kept)["cut short"]
    assert kept.rejected == {CUT_SHORT: 1}
    assert kept.rows_kept == kept.rows_read - 1
    assert kept.windows_reused == kept.windows  # the refused run had read all there is
    if cut_file.name != "cat.ndjson.gz":
        assert kept.rows_read == 2 * ROWS
    assert [bool(source.cut) for source in Manifest.read(store).sources] == [True, False]
    assert not verify_store(store).problems
    # Nothing changed, and what was allowed once is not allowed for good.
    assert run(cut_file.parent, store, allow_cut=True).skipped
    with pytest.raises(InputError, match="ends in the middle of"):
        run(cut_file.parent, store)


def test_scan_refuses_it_too(cut_file: Path) -> None:
    with pytest.raises(InputError, match=r"ends in the middle of .* allow_cut=True"):
        scan(cut_file)
    assert len(scan(cut_file, allow_cut=True)) > 200


def test_a_gzip_that_breaks_off_where_a_window_ends_is_cut_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_read, "STRIDE", 10)
    monkeypatch.setattr(first_read, "rows_at_most", lambda source, offsets: 10)
    monkeypatch.setattr(reading, "rows_at_most", lambda source, offsets: 10)
    path = tmp_path / "cat.csv.gz"
    packed = gzip.compress(
        HEADER + b"".join(map(csv_line, random_rows(np.random.default_rng(3), 20)))
    )
    for missing, cut in ((0, ""), (4, "its compressed data")):
        path.write_bytes(packed[: len(packed) - missing])
        source = source_of(path)
        assert [*found_windows(source, unread(source))][-1].known.cut == cut
    result = run(path, tmp_path / "store", allow_cut=True)
    assert (result.rows_kept, result.cut) == (20, ("cat.csv.gz",))


def test_the_end_of_a_file_does_not_matter_to_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "cat.csv"
    lines = list(map(csv_line, random_rows(np.random.default_rng(4), 20)))
    path.write_bytes((HEADER + b"".join(lines))[:-9])
    assert run(path, tmp_path / "store", rows="head:12").rows_kept == 12
    with pytest.raises(InputError, match="ends in the middle of"):
        run(path, tmp_path / "all", rows="head:20")
