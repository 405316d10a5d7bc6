"""Every refused row says what it has instead of what it should, and where it can be read."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from fuzzing import as_block, mutated
from row_files import HEADER, short_rows
from writers import Row, binary_record, ndjson_line

from quickdraw_core.errors import InputError, UnreadableError
from quickdraw_core.formats.binary import BinaryReader
from quickdraw_core.formats.detect import TEST_COLUMNS, TRAIN_COLUMNS, Header, detect_format
from quickdraw_core.formats.kaggle import KaggleReader
from quickdraw_core.formats.ndjson import NdjsonReader
from quickdraw_core.formats.readers import RowReader
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import IngestResult, ingest
from quickdraw_core.ingest.summary import ingest_facts

ROW = Row(7, "US", True, 1_488_000_000_000_000, "cat", [([1, 2], [3, 4])])
CSV = b'US,"[[[1, 2], [3, 4]]]",5666841479348224,True,2017-03-08 21:12:07.266040,cat\n'
RAW = CSV.replace(b"[3, 4]", b"[3, 4], [0, 9]")
NDJSON, BINARY = ndjson_line(ROW), binary_record(ROW)
READERS: dict[bytes, RowReader] = {
    CSV: KaggleReader(Header(TRAIN_COLUMNS), "cat"),
    RAW: KaggleReader(Header(TRAIN_COLUMNS), "cat", raw=True),
    NDJSON: NdjsonReader("cat"),
    BINARY: BinaryReader("cat"),
}


@pytest.mark.parametrize(
    ("row", "old", "new", "found"),
    [
        (CSV, b",cat", b",CAT", "the row says 'CAT', by its name the file should hold 'cat'"),
        (CSV, b"5666841479348224", b"5.04787e+15", "found '5.04787e+15'"),
        (CSV, b"5666841479348224", b"-5", "found '-5'"),
        (CSV, b"5666841479348224", b"", "found nothing"),
        (CSV, b"True", b"yes", "found 'yes'"),
        (CSV, b"2017-03-08", b"08.03.2017", "found '08.03.2017 21:12:07.266040'"),
        (CSV, b",cat", b"", "found 5, the header has 6"),
        (CSV, b"[1, 2]", b"[1, 256]", "found 256"),
        (CSV, b"[1, 2]", b"[1, 2.5]", "found 2.5"),
        (CSV, b"[1, 2]", b"[1]", "found 1 and 2"),
        (CSV, b"US", b"\xff", "found b'\\xff,"),
        (CSV, b"US", b"U\0", "as character 2"),
        (RAW, b"[0, 9]", b"[0]", "found 1 and 2"),
        (RAW, b"[1, 2]", b'[1, ""two""]', "found 'two'"),
        (NDJSON, b'"cat"', b'"dog"', "the row says 'dog', by its name the file should hold 'cat'"),
        (NDJSON, b"true", b'"True"', "found 'True'"),
        (NDJSON, b'"7"', b"7.5", "found 7.5"),
        (NDJSON, b"[[[", b"[[7, [", "found"),
        (BINARY, b"US\1", b"US\2", "found 2"),
        (BINARY, b"US\1", b"us\1", "found b'us'"),
    ],
)
def test_a_refused_row_says_what_it_has(row: bytes, old: bytes, new: bytes, found: str) -> None:
    assert old in row
    _, (rejected,) = READERS[row].read(as_block(row.replace(old, new, 1)), 1)
    assert rejected.found.startswith(found)


@pytest.mark.parametrize("row", READERS, ids=["csv", "raw", "ndjson", "binary"])
def test_no_refusal_is_without_words(row: bytes) -> None:
    chance = np.random.default_rng(5)
    for _ in range(400):
        _, rejected = READERS[row].read(as_block(mutated(chance, row * 3, 3)), 1)
        assert all(refused.found for refused in rejected)
        assert all(len(refused.found) < 250 for refused in rejected)


def run(source: Path, store: Path, **options: object) -> IngestResult:
    values = {"source": source, "store": store, "workers": 1, "test_per_class": 5} | options
    return ingest(IngestConfig.parse(values))


def test_a_faulty_file_is_named_with_a_value_and_its_quarantine(tmp_path: Path) -> None:
    lines = short_rows(60)
    lines[7] = lines[7].replace(b"True", b"yes")
    lines[9] = lines[3]
    path = tmp_path / "in" / "cat.csv"
    path.parent.mkdir()
    path.write_bytes(HEADER + b"".join(lines))
    with pytest.raises(UnreadableError, match="line 9: found 'yes'") as caught:
        run(path, tmp_path / "store")
    (folder,) = re.findall(r"; see (\S+?)(?:[,;]|$)", str(caught.value))
    (quarantine,) = Path(folder).rglob("*.jsonl")
    rows = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert rows[0]["found"] == "found 'yes'"
    # Beside a class that can be used, it is where the message says as well.
    other = [line.replace(b",cat", b",dog").replace(b",1000", b",2000") for line in short_rows(60)]
    (path.parent / "dog.csv").write_bytes(HEADER + b"".join(other))
    for options in ({"strict": True}, {}, {"strict": True}):
        with pytest.raises(UnreadableError, match="line 9: found 'yes'") as caught:
            run(path.parent, tmp_path / "both", **options)
        (folder,) = re.findall(r"; see (\S+?)(?:[,;]|$)", str(caught.value))
        assert list(Path(folder).glob("word=cat/*.jsonl"))
    result = run(path, tmp_path / "store", max_rejected=0.1)
    assert result.examples == {
        "key_id is that of an earlier drawing": "cat.csv line 11: found 10000003 again",
        "recognized is neither True nor False": "cat.csv line 9: found 'yes'",
    }
    told = ingest_facts(result)["rejected"]
    assert "cat.csv line 9: found 'yes'" in told
    assert str(tmp_path / "store" / "quarantine") in told


def test_a_header_that_lacks_columns_says_those_of_both_kinds_and_its_separator() -> None:
    columns = f"needs {', '.join(TRAIN_COLUMNS)}, a test file {', '.join(TEST_COLUMNS)}"
    with pytest.raises(
        InputError, match=rf"with ';' between columns and not a comma; .*{columns}"
    ):
        detect_format(b'key_id;countrycode;drawing\n7;US;"[[[1], [2]]]"\n', "test.csv")
