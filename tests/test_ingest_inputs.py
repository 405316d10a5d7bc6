"""What may be fed to the ingest: every published form, and every fault that was thought of."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quickdraw_core.errors import InputError
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.ingest.result import IngestResult, LeftOutError
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.store.store import Store

from writers import Row, binary_record, csv_line, ndjson_line, random_rows  # isort: skip

ROWS = 300
HEADER = (",".join(TRAIN_COLUMNS) + "\n").encode()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return random_rows(np.random.default_rng(5), ROWS)


def run(source: Path | list[Path], store: Path, **options: object) -> IngestResult:
    values = {"source": source, "store": store, "workers": 2, "test_per_class": 5} | options
    return ingest(IngestConfig.parse(values))


def stored(store: Path) -> pa.Table:
    files = Manifest.read(store).files
    return pa.concat_tables(pq.ParquetFile(store / file.path).read() for file in files)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def csv_of(rows: list[Row]) -> bytes:
    return HEADER + b"".join(map(csv_line, rows))


def ndjson_of(rows: list[Row]) -> bytes:
    return b"".join(map(ndjson_line, rows))


def binary_of(rows: list[Row]) -> bytes:
    return b"".join(binary_record(row) for row in rows)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("cat.csv", csv_of),
        ("cat.csv.gz", csv_of),
        ("cat.ndjson", ndjson_of),
        ("cat.ndjson.gz", ndjson_of),
        ("full_simplified_cat.ndjson", ndjson_of),
        ("cat.bin", binary_of),
    ],
)
def test_every_form_of_the_same_drawings_gives_the_same_rows(
    name: str, form: Callable[[list[Row]], bytes], rows: list[Row], tmp_path: Path
) -> None:
    run(write(tmp_path / "in" / name, form(rows)), tmp_path / "store")
    table = stored(tmp_path / "store")
    assert table["key_id"].to_pylist() == [row.key_id for row in rows]
    assert table["recognized"].to_pylist() == [row.recognized for row in rows]
    assert table["x"].to_pylist() == [b"".join(bytes(x) for x, _ in r.strokes) for r in rows]
    assert table["y"].to_pylist() == [b"".join(bytes(y) for _, y in r.strokes) for r in rows]
    times = table["timestamp"].cast("int64").to_pylist()
    if form is binary_of:  # whole seconds, and two bytes for the country whatever it is
        assert times == [row.timestamp_us // 1_000_000 * 1_000_000 for row in rows]
    else:
        assert times == [row.timestamp_us for row in rows]
        assert table["countrycode"].to_pylist() == [row.countrycode for row in rows]


def test_a_test_file_gives_drawings_without_a_word(rows: list[Row], tmp_path: Path) -> None:
    lines = []
    for row in rows:
        country, rest = csv_line(row).decode().split(",", 1)
        drawing = rest[: rest.index('"', 1) + 1]
        lines.append(f"{row.key_id},{country},{drawing}\n")
    text = "key_id,countrycode,drawing\n" + "".join(lines)
    result = run(write(tmp_path / "test_simplified.csv", text.encode()), tmp_path / "store")
    assert (result.classes, result.rows_kept) == (0, ROWS)
    assert list((tmp_path / "store").glob("drawings/word=__HIVE_DEFAULT_PARTITION__/*"))
    assert stored(tmp_path / "store")["key_id"].to_pylist() == [row.key_id for row in rows]


def test_real_raw_drawings_become_their_simplified_twins(
    shared_data: Path, tmp_path: Path
) -> None:
    """The published pairs of 85 classes, all the way from the raw file to the store; `test_raw`
    has those of all.
    """
    by_word: dict[str, list[bytes]] = {}
    for line in gzip.decompress(
        (shared_data / "raw/full_raw_sample.ndjson.gz").read_bytes()
    ).splitlines():
        by_word.setdefault(json.loads(line)["word"], []).append(line + b"\n")
    there = {path.stem for path in (shared_data / "train_simplified").glob("*.csv")}
    words = tuple(sorted(there & by_word.keys())[::4])
    for word in words:
        write(tmp_path / "raw" / f"{word}.ndjson", b"".join(by_word[word]))
    run(tmp_path / "raw", tmp_path / "store", max_rejected=1)
    run(shared_data / "train_simplified", tmp_path / "twins", max_rejected=1, classes=words)
    ours, theirs = ({row["key_id"]: row for row in stored(tmp_path / name).to_pylist()}
                    for name in ("store", "twins"))  # fmt: skip
    pairs = [(row, theirs[key]) for key, row in ours.items() if key in theirs]
    equal = sum((a["x"], a["y"], a["stroke_lengths"]) == (b["x"], b["y"], b["stroke_lengths"])
                for a, b in pairs)  # fmt: skip
    same_counts = sum(len(a["x"]) == len(b["x"]) for a, b in pairs)
    assert len(pairs) > 1_500
    assert equal >= 0.99 * len(pairs)
    assert same_counts >= 0.995 * len(pairs)


def spoiled(line: bytes, old: bytes, new: bytes) -> bytes:
    assert old in line
    return line.replace(old, new, 1)


GOOD = b'US,"[[[1, 2], [3, 4]]]",%d,True,2017-03-01 00:00:00.5,cat\n'

FAULTS = {
    "brackets": (b"]]]", b"]]", "brackets of the drawing do not balance"),
    "lengths": (b"[3, 4]", b"[3]", "x and y differ in length"),
    "range": (b"[1, 2]", b"[1, 256]", "coordinate is outside 0..255"),
    "negative": (b"[1, 2]", b"[1, -2]", "coordinate is outside 0..255"),
    "empty": (b"[[[1, 2], [3, 4]]]", b"[]", "drawing has no stroke"),
    "no points": (b"[1, 2], [3, 4]", b"[], []", "stroke is empty"),
    "float": (b"[1, 2]", b"[1.5, 2]", "coordinate is not an integer"),
    "text": (b"[1, 2]", b"[one, 2]", "drawing is not JSON"),
    "word": (b",cat", b",dog", "word is not that of the file"),
    "utf8": (b"US", b"\xff\xfe", "line is not UTF-8"),
    "recognized": (b"True", b"yes", "recognized is neither True nor False"),
    "time": (b"2017-03-01", b"2017-02-30", "timestamp is not a date and time"),
    "quote": (b"US", b'"US', "quotes are misplaced"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_row_costs_that_row_and_says_why(fault: str, tmp_path: Path) -> None:
    old, new, reason = FAULTS[fault]
    lines = [GOOD % (number << 21) for number in range(1, 201)]
    bad = spoiled(lines[70], old, new)
    lines[70] = bad
    write(tmp_path / "cat.csv", HEADER + b"".join(lines))
    result = run(tmp_path, tmp_path / "out" / "store", max_rejected=0.01)
    assert (result.rows_read, result.rows_kept) == (200, 199)
    (only,) = result.rejected
    assert only == reason
    assert result.rejected_by_source == {"cat.csv": 1}
    (path,) = (tmp_path / "out" / "store" / "quarantine").rglob("*.jsonl")
    record = json.loads(path.read_text())
    assert (record["source"], record["line"], record["reason"]) == ("cat.csv", 72, only)
    assert record["text"] == bad.rstrip(b"\n").decode(errors="backslashreplace")


@pytest.mark.parametrize("key_id", ["", "-5", "1.5", "x", str(1 << 64), "99999999999999999999999"])
def test_a_bad_key_id_costs_its_row(key_id: str, tmp_path: Path) -> None:
    bad = GOOD.replace(b"%d", key_id.encode())
    lines = [GOOD % (number << 21) for number in range(1, 200)]
    write(tmp_path / "cat.csv", HEADER + b"".join(lines) + bad)
    result = run(tmp_path, tmp_path / "out" / "store")
    assert result.rows_kept == 199
    assert "key_id" in next(iter(result.rejected))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.removesuffix(b"\n"),
        lambda text: text.replace(b'US,"', b'"US","'),
    ],
    ids=["bom", "crlf", "no last line end", "quoted"],
)
def test_harmless_variants_lose_nothing(change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    text = HEADER + b"".join(GOOD % (number << 21) for number in range(1, 200))
    write(tmp_path / "a" / "cat.csv", text)
    write(tmp_path / "b" / "cat.csv", change(text))
    run(tmp_path / "a", tmp_path / "store-a")
    assert run(tmp_path / "b", tmp_path / "store-b").rows_kept == 199
    assert stored(tmp_path / "store-a") == stored(tmp_path / "store-b")


def test_columns_may_stand_in_any_order_beside_others(rows: list[Row], tmp_path: Path) -> None:
    write(tmp_path / "a" / "cat.csv", csv_of(rows))
    lines = [b"more,word,drawing,timestamp,recognized,key_id,countrycode\n"]
    for row in rows:
        country, rest = csv_line(row).decode().rstrip("\n").split(",", 1)
        end = rest.index('"', 1) + 1
        key_id, recognized, moment, word = rest[end + 1 :].split(",")
        lines.append(f"7,{word},{rest[:end]},{moment},{recognized},{key_id},{country}\n".encode())
    write(tmp_path / "b" / "cat.csv", b"".join(lines))
    run(tmp_path / "a", tmp_path / "store-a")
    run(tmp_path / "b", tmp_path / "store-b")
    assert stored(tmp_path / "store-a") == stored(tmp_path / "store-b")


def test_a_line_of_100_megabytes_costs_that_line(tmp_path: Path) -> None:
    lines = [GOOD % (number << 21) for number in range(1, 151)]
    lines.insert(100, b'US,"[[[' + b"1, " * 33_333_333 + b"\n")
    write(tmp_path / "cat.csv", HEADER + b"".join(lines))
    result = run(tmp_path, tmp_path / "out" / "store")
    assert (result.rows_read, result.rows_kept) == (151, 150)
    assert result.rejected == {"line is longer than 16 MiB": 1}
    (path,) = (tmp_path / "out" / "store" / "quarantine").rglob("*.jsonl")
    assert path.stat().st_size < 200_000  # its beginning is kept, not all of it


def test_a_gzip_that_was_cut_short_costs_its_file_and_is_named(
    rows: list[Row], tmp_path: Path
) -> None:
    write(tmp_path / "cat.csv.gz", csv_of(rows))
    many = random_rows(np.random.default_rng(6), 3_000, "dog")
    dog = write(tmp_path / "dog.csv.gz", csv_of(many))
    whole = dog.read_bytes()
    store = tmp_path / "out" / "store"
    dog.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LeftOutError, match=r"1 class is left out .*dog\.csv\.gz .*cut short"):
        run(tmp_path, store)
    assert Store.open(store).label_map.words == ("cat",)
    dog.unlink()
    assert run(tmp_path, store).skipped


def test_a_binary_file_that_is_out_of_step_is_named_and_costs_its_file(
    rows: list[Row], tmp_path: Path
) -> None:
    """A damaged length hides all drawings behind it: that is more than one refused record."""
    records = [binary_record(row) for row in rows]
    records[100] = records[100][:15] + b"\xff\xff" + records[100][17:]
    write(tmp_path / "dog.bin", b"".join(records))
    write(tmp_path / "cat.csv", csv_of(rows))
    store = tmp_path / "out" / "store"
    with pytest.raises(InputError, match=r"dog\.bin is damaged at record 101: .* fetch it again"):
        run(tmp_path, store, max_rejected=1)
    assert list(store.glob("receipts/word=cat/*"))


def test_fresh_reads_everything_again(rows: list[Row], tmp_path: Path) -> None:
    write(tmp_path / "cat.csv", csv_of(rows))
    store = tmp_path / "out" / "store"
    first = run(tmp_path, store)
    again = run(tmp_path, store, fresh=True)
    assert (again.skipped, again.windows_reused) == (False, 0)
    assert again.fingerprint == first.fingerprint


def test_the_first_of_drawings_with_one_key_id_stays(tmp_path: Path) -> None:
    cats = [GOOD % (number << 21) for number in range(1, 151)]
    cats[40:40] = [cats[3].replace(b"[1, 2]", b"[9, 9]"), b"nonsense\n"]
    dogs = [(GOOD % (number << 21)).replace(b",cat", b",dog") for number in range(150, 301)]
    write(tmp_path / "cat.csv", HEADER + b"".join(cats))
    write(tmp_path / "dog.csv", HEADER + b"".join(dogs))
    store = tmp_path / "out" / "store"
    result = run(tmp_path, store, max_rejected=0.02)
    reason = "key_id is that of an earlier drawing"
    assert result.rejected[reason] == 2
    assert result.rows_read == 152 + 151 == result.rows_kept + 3
    records = [
        json.loads(line)
        for path in sorted(store.rglob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert [(r["source"], r["line"]) for r in records if r["reason"] == reason] == [
        ("cat.csv", 42),
        ("dog.csv", 2),
    ]
    assert "[9, 9]" in records[0]["text"]
    table = stored(store)
    assert len(set(table["key_id"].to_pylist())) == len(table) == result.rows_kept
    before = {path: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}
    (store / "manifest.json").unlink()
    run(tmp_path, store, max_rejected=0.02)
    after = {path: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}
    assert after == before


def test_too_many_bad_rows_cost_the_class_and_name_the_file(
    rows: list[Row], tmp_path: Path
) -> None:
    write(tmp_path / "cat.csv", csv_of(rows) + b"nonsense\n" * 10)
    write(tmp_path / "dog.csv", csv_of(random_rows(np.random.default_rng(6), 50, "dog")))
    store = tmp_path / "out" / "store"
    with pytest.raises(LeftOutError, match=r"cat\.csv: .* 10 of 310 rows \(3\.23%; .*--max-rejec"):
        run(tmp_path, store)
    with pytest.raises(LeftOutError, match=r"cat\.csv: .* 10 of 310"):
        run(tmp_path, store, max_rejected=0.03)
    assert len(list(store.glob("unfinished/quarantine/word=cat/*"))) == 1
    result = run(tmp_path, store, max_rejected=0.04)
    assert result.windows_reused == result.windows == 2
    assert not (store / "unfinished").exists()
    before = Manifest.read(store)
    with pytest.raises(InputError, match=r"cat\.csv: .* 10 of 310"):  # also where nothing is to do
        run(tmp_path, store)
    assert Manifest.read(store) == before


def test_only_a_changed_file_is_read_again(rows: list[Row], tmp_path: Path) -> None:
    for number, word in enumerate(("cat", "dog", "owl")):
        others = random_rows(np.random.default_rng(10 + number), 50, word)
        write(tmp_path / f"{word}.csv", csv_of(others))
    store = tmp_path / "out" / "store"
    run(tmp_path, store)
    path = tmp_path / "dog.csv"
    status, content = path.stat(), path.read_bytes()
    # Same size, same time: the head tells.
    path.write_bytes(content.replace(b"2017-", b"2018-", 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    result = run(tmp_path, store)
    assert (result.windows, result.windows_reused, result.skipped) == (3, 2, False)
    shutil.copy(path, tmp_path / "ant.csv")
    (tmp_path / "ant.csv").write_bytes(csv_of(random_rows(np.random.default_rng(20), 50, "ant")))
    grown = run(tmp_path, store)
    assert (grown.windows, grown.windows_reused) == (4, 3)
