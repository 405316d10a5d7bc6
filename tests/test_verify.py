"""`verify` finds each kind of damage, names it, and is not stopped by it."""

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from file_tree import sha256_of
from row_store import Row, build_store

from quickdraw_core.errors import StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.storage.local import LocalStorage
from quickdraw_core.store import duplicates
from quickdraw_core.store.holdout import DEFAULT_SALT, HoldoutRule, Split
from quickdraw_core.store.manifest import MANIFEST_NAME, Manifest
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.schema import SCHEMA, write_part
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify import VerifyResult, is_plausible, verify_store
from quickdraw_core.system.prefetch import on_threads

SUN = "word=sun/part-000000000"
PARQUET, QUARANTINE, RECEIPT = (
    f"drawings/{SUN}.parquet",
    f"quarantine/{SUN}.jsonl",
    f"receipts/{SUN}.json",
)

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSVs of two words; 3 of the 120 rows of `sun` cannot be read."""
    folder = tmp_path_factory.mktemp("csv")
    generate_csvs(folder, ("sun", "ice cream"), 120, seed=3)
    lines = (folder / "sun.csv").read_text().splitlines(keepends=True)
    lines[5] = lines[50] = "nonsense\n"
    lines[7] = lines[7].replace("]]]", "]]", 1)
    (folder / "sun.csv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def packed(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of `sources`, and its pack. Not to be changed."""
    store = tmp_path_factory.mktemp("verify") / "store"
    ingest_into(store, sources)
    open_pack(Store.open(store))
    return store


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """A copy of `packed`, to be damaged."""
    return Path(shutil.copytree(packed, tmp_path / "store"))


def ingest_into(store: Path, sources: Path, **options: Any) -> None:
    values = {"source": sources, "store": store, "test_per_class": 20, "max_rejected": 0.1}
    ingest(IngestConfig.parse(values | {"workers": 1} | options))


def the_problem(store: Path) -> str:
    """The one problem of a store."""
    result = verify_store(store)
    assert len(result.problems) == 1, result.problems
    assert "\n" not in result.problems[0]
    return result.problems[0]


def sound(result: VerifyResult) -> bool:
    return (result.problems, result.notes) == ((), ())


def test_a_store_as_it_was_made_is_sound(packed: Path, store: Store) -> None:
    result = verify_store(packed)
    assert sound(result), result
    assert (result.files, result.rows, result.rejected) == (2, 237, 3)
    read = [*packed.rglob("*.parquet"), *packed.rglob("*.jsonl")]
    assert result.bytes_read == sum(path.stat().st_size for path in read)
    assert result.fingerprint == Manifest.read(packed).fingerprint
    assert verify_store(store.path).problems == ()


def test_a_store_of_many_windows_is_sound(sources: Path, tmp_path: Path) -> None:
    ingest_into(tmp_path / "store", sources, rows="spread:9x7", test_per_class=3)
    result = verify_store(tmp_path / "store")
    assert result.problems == ()
    assert result.files == 18


def test_a_store_of_drawings_without_words_is_sound(tmp_path: Path) -> None:
    lines = [f'{n << 21},NA,"[[[0,{n}],[0,9]]]"\n' for n in range(1, 90)]
    source = tmp_path / "test_simplified.csv"
    source.write_text("key_id,countrycode,drawing\n" + "".join(lines) + "nonsense\n")
    ingest_into(tmp_path / "store", source)
    result = verify_store(tmp_path / "store")
    assert sound(result), result
    assert (result.rows, result.rejected) == (89, 1)


def test_a_store_without_any_file_is_sound(tmp_path: Path) -> None:
    result = verify_store(build_store(tmp_path, {}).path)
    assert sound(result), result
    assert (result.files, result.rows, result.bytes_read) == (0, 0, 0)


def test_where_there_is_no_store_that_is_said(packed: Path, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store there: .* does not exist"):
        verify_store(tmp_path / "nowhere")
    (copy / MANIFEST_NAME).unlink()
    with pytest.raises(StoreError, match="its ingest did not finish"):
        verify_store(copy)


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def edit_json(path: Path, *keys: str | int, value: object) -> None:
    """Puts `value` in the place of `keys` in a file of JSON."""
    whole = json.loads(path.read_text())
    place = whole
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(whole))


FILES = {
    "missing": (lambda s: (s / PARQUET).unlink(), f"{PARQUET} is missing; ingest again"),
    "shorter": (lambda s: cut(s / PARQUET), rf"{PARQUET} has [\d,]+ bytes, the manifest says"),
    "a bit": (lambda s: flip(s / PARQUET, 99), f"{PARQUET} is damaged: its SHA-256 is"),
    "quarantine missing": (lambda s: (s / QUARANTINE).unlink(), f"{QUARANTINE} is missing"),
    "quarantine": (lambda s: flip(s / QUARANTINE), f"{QUARANTINE} is damaged: its SHA-256"),
    "receipt": (lambda s: cut(s / RECEIPT), f"{RECEIPT} is a receipt that cannot be read; delete"),
    "receipt's rows": (
        lambda s: edit_json(s / RECEIPT, "file", "rows", value=7),
        f"{RECEIPT} has rows 7, the manifest says 117; delete it",
    ),
    "receipt's key": (
        lambda s: edit_json(s / RECEIPT, "key", value="x"),
        f"{RECEIPT} has a key that is not a SHA-256; delete it",
    ),
    "receipt's hashes": (
        lambda s: edit_json(s / RECEIPT, "smallest_hashes", value=[1, 2]),
        f"{RECEIPT} has other hashes than the smallest of its drawings; delete it",
    ),
    "stranger": (
        lambda s: shutil.copy(s / PARQUET, s / "drawings/word=sun/part-000000120.parquet"),
        r"word=sun/part-000000120\.parquet is not named by the manifest.*; delete it",
    ),
    "stranger in the quarantine": (
        lambda s: (s / "quarantine/notes.txt").write_text("x"),
        r"quarantine/notes\.txt is not named by the manifest.*; delete it",
    ),
    "temporary file": (
        lambda s: (s / "drawings/word=sun/.part-000000000.parquet.0123abcd.tmp").write_text("x"),
        r"0123abcd\.tmp was left by an ingest that did not finish; delete it",
    ),
    "temporary manifest": (
        lambda s: (s / ".manifest.json.0123abcd.tmp").write_text("x"),
        r"\.manifest\.json\.0123abcd\.tmp was left by an ingest",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_damage_to_a_file_is_found_and_mended_as_the_message_says(
    name: str, copy: Path, sources: Path, packed: Path
) -> None:
    damage, expected = FILES[name]
    damage(copy)
    problem = the_problem(copy)
    assert re.search(expected, problem)
    named = re.search(r"(/\S+?)(?: |;|:)", problem)
    if problem.endswith("ingest again to restore it"):
        ingest_into(copy, sources)
    else:
        assert "delete it" in problem
        assert named
        Path(named[1]).unlink()
    assert verify_store(copy).problems == ()
    assert Manifest.read(copy) == Manifest.read(packed)


def test_one_damaged_file_does_not_hide_another(copy: Path) -> None:
    flip(copy / PARQUET)
    (copy / QUARANTINE).unlink()
    cut(copy / "drawings/word=ice_cream/part-000000000.parquet")
    result = verify_store(copy)
    assert len(result.problems) == 3
    assert result.files == 0
    for path in (PARQUET, QUARANTINE, "word=ice_cream/part-000000000.parquet"):
        assert sum(path in problem for problem in result.problems) == 1


def test_missing_receipts_are_only_a_note(copy: Path) -> None:
    shutil.rmtree(copy / "receipts")
    result = verify_store(copy)
    assert result.problems == ()
    assert result.notes == (
        "2 of 2 windows have no receipt: an ingest that changes the store will read them again",
    )


def test_what_does_no_harm_is_a_note(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    (copy / "manifest.previous.json").write_text("{}")
    shutil.copy(copy / RECEIPT, copy / "receipts/word=sun/part-000065536.json")
    (copy / "pack" / "0123456789abcdef").mkdir()
    result = verify_store(copy)
    assert result.problems == ()
    for text in ("notes.txt", "manifest.previous.json", "part-000065536.json", "0123456789abcdef"):
        assert sum(text in note for note in result.notes) == 1


MANIFESTS: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "version": (("format_version",), 1, "has format version 1, this program reads"),
    "label map": (("label_map", "words"), ["ice cream", "moon"], "does not match its own digest"),
    "words": (("label_map", "words"), [1, 2], "manifest.json is damaged: "),
    "no words": (("label_map",), None, "no label map, but files have words: 'ice cream', 'sun'"),
    "field": (("files", 0, "rows"), "many", r"is damaged at files\.0\.rows"),
    "rule": (("holdout", "test_share"), 1.5, r"is damaged at holdout\.test_share"),
    "salt": (("holdout", "salt"), 1, "the options have salt .*, the holdout rule has 1"),
    "rows read": (("files", 1, "rows_read"), 121, "121 rows read, but 117 kept . 3 rejected"),
    "kept": (("sources", 1, "rows_kept"), 116, "117 kept|116 rows kept, but 117 by its files"),
    "rejected": (("sources", 1, "rejected"), {"odd": 3}, "its rejected rows are not those of"),
    "rows": (("sources", 0, "rows"), 240, "120 of all its 240 rows were read"),
    "place": (("files", 1, "first_row"), 5, "is not the path of row 5 of 'sun', which is"),
    "path": (("files", 1, "path"), "drawings/s.parquet", "s.parquet is not the path of row 0"),
    "word": (("files", 1, "word"), "moon", "is of 'moon', for which there is no source"),
    "source": (("sources", 1, "word"), "moon", "'sun', for which there is no source"),
    "quarantine": (("files", 1, "quarantine_sha256"), None, "or a quarantine file, but not both"),
    "negative": (("files", 1, "strokes"), -1, "has a negative number of something"),
    "too many rows": (("files", 1, "rows"), 10**18, "kept . 3 rejected"),
    "file count": (("files",), [], "has no file in the store"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_disagrees_with_itself_is_found(name: str, copy: Path) -> None:
    keys, value, expected = MANIFESTS[name]
    edit_json(copy / MANIFEST_NAME, *keys, value=value)
    problems = verify_store(copy).problems
    (found, *_) = [problem for problem in problems if re.search(expected, problem)]
    assert MANIFEST_NAME in found
    assert found.endswith("ingest again with --fresh")


def test_windows_that_overlap_are_found(tmp_path: Path) -> None:
    row = Row(5, None, None, None, [([0], [0])])
    built = build_store(tmp_path, {"cat": [[row], []]})
    edit_json(tmp_path / MANIFEST_NAME, "files", 0, "rows_read", value=9)
    assert any("begins at row 2, before row 9" in p for p in verify_store(built.path).problems)


def rewrite(store: Path, change: Callable[[pa.Table], pa.Table], **record: object) -> None:
    """Makes the file of `sun` anew, as an ingest with a defect would: its checksum is right."""
    table = change(pq.ParquetFile(store / PARQUET).read())
    if table.schema.equals(SCHEMA):
        write_part(table, LocalStorage(store), PARQUET)
    else:
        pq.write_table(table, store / PARQUET)
    record |= {
        "sha256": sha256_of(store / PARQUET),
        "size_bytes": (store / PARQUET).stat().st_size,
    }
    shutil.rmtree(store / "receipts")
    shutil.rmtree(store / "pack")
    for name, value in record.items():
        edit_json(store / MANIFEST_NAME, "files", 1, name, value=value)


def replaced(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    """The table with another value in one row."""
    values = table[name].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(place, field, pa.array(values, field.type))


def dropped(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name])


CONTENTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "fewer rows": (lambda t: t.slice(1), "holds 116 drawings, the manifest says 117"),
    "y": (lambda t: replaced(t, "y", 3, b"\1"), "1 drawing with x and y of different lengths, the"
          " first in row 3"),
    "no stroke": (lambda t: replaced(t, "stroke_lengths", 4, b""), "1 drawing with no stroke"),
    "lengths": (
        lambda t: replaced(t, "stroke_lengths", 5, b"\1\0"),
        "1 drawing with strokes of other lengths than its points, the first in row 5",
    ),
    "empty stroke": (
        lambda t: replaced(t, "stroke_lengths", 6, t["stroke_lengths"][6].as_py() + b"\0\0"),
        "1 drawing with a stroke without points, the first in row 6",
    ),
    "half a length": (
        lambda t: replaced(t, "stroke_lengths", 7, b"\1"), "stroke_lengths of an odd number"
    ),
    "no column": (lambda t: dropped(t, "recognized"), "has the columns key_id, countrycode, time"),
    "another type": (
        lambda t: t.set_column(2, "recognized", t["recognized"].cast("uint8")),
        r"has the column recognized \(uint8, may be null\), not recognized \(bool, may be null\)",
    ),
    "key_id null": (
        lambda t: t.set_column(0, "key_id", pa.array([None] * len(t), "uint64")),
        r"has the column key_id \(uint64, may be null\), not key_id \(uint64\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_drawings_that_cannot_be_are_found_behind_a_right_checksum(name: str, copy: Path) -> None:
    change, expected = CONTENTS[name]
    rewrite(copy, change)
    problems = verify_store(copy).problems
    (found, *_) = [problem for problem in problems if re.search(expected, problem)]
    assert PARQUET in found
    assert found.endswith("ingest again with --fresh")


def test_a_store_that_was_made_wrongly_is_mended_as_the_message_says(
    copy: Path, sources: Path, packed: Path
) -> None:
    rewrite(copy, CONTENTS["y"][0])
    edit_json(copy / MANIFEST_NAME, "files", 1, "rows_read", value=121)
    assert verify_store(copy).problems
    shutil.rmtree(copy / "receipts", ignore_errors=True)
    ingest_into(copy, sources, fresh=True)
    assert sound(verify_store(copy))
    assert Manifest.read(copy) == Manifest.read(packed)


def test_a_file_that_is_no_parquet_is_found_behind_a_right_checksum(copy: Path) -> None:
    rewrite(copy, lambda table: table)
    (copy / PARQUET).write_bytes(b"PAR1" * 20)
    edit_json(copy / MANIFEST_NAME, "files", 1, "sha256", value=sha256_of(copy / PARQUET))
    edit_json(copy / MANIFEST_NAME, "files", 1, "size_bytes", value=80)
    assert f"{PARQUET} is not a Parquet file of a store" in the_problem(copy)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda lines: lines[:2], "nonsense|has .*: 1, .* the manifest says"),
        (lambda lines: lines[::-1], "line 51 after|holds a line of another form"),
        (lambda lines: [*lines[:2], "{}"], "holds a line of another form"),
        (lambda lines: [*lines[:2], lines[2].replace(": 51,", ": 510,")], "has lines 6 to 510"),
        (lambda lines: [lines[0].replace(": 6,", ": 1,"), *lines[1:]], "has lines 1 to 51, its "
         "window is lines 2 to 121"),
    ],
)  # fmt: skip
def test_a_quarantine_that_disagrees_is_found_behind_a_right_checksum(
    change: Callable[[list[str]], list[str]], expected: str, copy: Path
) -> None:
    path = copy / QUARANTINE
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))
    shutil.rmtree(copy / "receipts")
    edit_json(copy / MANIFEST_NAME, "files", 1, "quarantine_sha256", value=sha256_of(path))
    problem = the_problem(copy)
    assert QUARANTINE in problem
    assert re.search(expected, problem)


@pytest.mark.parametrize("most_bits", [duplicates.MAX_FILTER_BITS, 64])
def test_duplicates_are_found_however_full_the_filter_is(
    most_bits: int, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MAX_FILTER_BITS", most_bits)
    other = pq.ParquetFile(copy / "drawings/word=ice_cream/part-000000000.parquet").read()
    key_ids = other["key_id"].to_pylist()

    def change(table: pa.Table) -> pa.Table:
        for row in (2, 30, 31, 77, 110):
            table = replaced(table, "key_id", row, key_ids[row])
        return table

    rewrite(copy, change)
    problem = the_problem(copy)
    assert problem.startswith(
        f"5 drawings have the key_id of an earlier one: {key_ids[2]} in row 2 of {PARQUET}, "
        f"{key_ids[30]} in row 30 of {PARQUET}, {key_ids[31]} in row 31 of {PARQUET} … and 2 more"
    )


def test_a_pack_that_is_not_the_store_is_found(copy: Path) -> None:
    (folder,) = (copy / "pack").iterdir()
    for path in folder.glob("*.npy"):
        before = path.read_bytes()
        flip(path, -5)
        name = path.stem
        assert f"has other values than the store in {name} of drawings/word=sun" in (
            the_problem(copy)
        )
        np.save(path, np.load(path)[:-1])
        assert f"has {name} of " in the_problem(copy)
        path.write_bytes(before[:70])
        assert f"cannot open the pack {folder}" in the_problem(copy)
        path.write_bytes(before)
    assert sound(verify_store(copy))


def drawings_of_side(side: Split, count: int) -> list[Row]:
    """Drawings that all fall on one side of the rule of `build_store`."""
    rule = HoldoutRule(salt=DEFAULT_SALT, test_share=0.3, validation_share=0.2)
    key_ids = np.arange(1, 5_000, dtype=np.uint64) << np.uint64(21)
    chosen = key_ids[rule.split(key_ids) == side][:count]
    return [Row(int(key_id), None, None, None, [([1, 2], [3, 4])]) for key_id in chosen]


def test_sides_that_are_not_of_the_rule_s_sizes_are_found(tmp_path: Path) -> None:
    built = build_store(tmp_path, {"cat": [drawings_of_side(Split.TRAIN, 400)]})
    test, validation = verify_store(built.path).problems
    assert "makes 30.00% of the drawings test, found are 0.00%" in test
    assert "makes 20.00% of the drawings validation, found are 0.00%" in validation


def test_classes_short_of_test_drawings_are_a_note(tmp_path: Path) -> None:
    windows = [[*drawings_of_side(Split.TEST, 3), *drawings_of_side(Split.TRAIN, 7)]]
    built = build_store(tmp_path, {"cat": windows, "dog": [drawings_of_side(Split.VALIDATION, 1)]})
    edit_json(tmp_path / MANIFEST_NAME, "options", "test_per_class", value=3)
    result = verify_store(built.path)
    assert "1 of 2 classes have fewer than 3 test drawings: dog (0)" in result.notes


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("rows", [1, 30, 1_000, 1_000_000])
def test_chance_is_plausible_and_no_side_at_all_is_not(share: float, rows: int) -> None:
    found = np.random.default_rng(0).binomial(rows, share, 100_000)
    assert is_plausible(int(found.min()), rows, share)
    assert is_plausible(int(found.max()), rows, share)
    if rows * share > 12:
        assert not is_plausible(0, rows, share)
        assert not is_plausible(rows, rows, share)


def test_threads_begin_nothing_more_once_the_caller_stops() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        return item

    results = on_threads(work, range(2_000))
    assert next(results) == 0
    results.close()
    assert len(begun) < 2_000
