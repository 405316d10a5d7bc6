"""What one bad file costs: its class. The others are in the store, the file is named, and what was
there before can be read until the new store is whole.
"""

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from file_tree import tree

from quickdraw_core.errors import InputError, UnreadableError, WriteError
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.ingest import tasks
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest, prepare
from quickdraw_core.ingest.result import IngestResult, LeftOutError
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify import verify_store

HEADER = ",".join(TRAIN_COLUMNS) + "\n"
FIRST_KEY = {"cat": 1_000, "dog": 2_000, "owl": 3_000}


def rows_of(word: str, count: int = 30) -> str:
    chance = random.Random(word)
    lines = []
    for row in range(count):
        x, y = chance.randrange(256), chance.randrange(256)
        drawing = f'"[[[{x}, {y}], [{y}, {x}]]]"'
        time = f"2017-03-01 00:00:00.{row:06d}"
        lines.append(f"US,{drawing},{(FIRST_KEY[word] + row) << 21},True,{time},{word}\n")
    return "".join(lines)


def cut_gzip(path: Path) -> None:
    path.unlink()
    path.with_suffix(".csv.gz").write_bytes(gzip.compress((HEADER + rows_of("owl")).encode())[:90])


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


BAD_FILES: dict[str, Callable[[Path], None]] = {
    "empty": text(""),
    "a line feed": text("\n"),
    "header alone": text(HEADER),
    "no header": text("nonsense\n" * 50),
    "a column missing": text("word,key_id\nowl,1\n"),
    "cut short": cut_gzip,
    "cut in a row": text(HEADER + rows_of("owl")[:-40]),
    "no row can be read": text(HEADER + "nonsense\n" * 3),
    "too many rejected": text(HEADER + rows_of("owl") + "nonsense\n" * 3),
    "another word's": text(HEADER + rows_of("cat").replace("4000", "4001")),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "csv"
    folder.mkdir()
    for word in FIRST_KEY:
        (folder / f"{word}.csv").write_text(HEADER + rows_of(word))
    return folder


def run(source: Path, **options: Any) -> IngestResult:
    store = source.parent / "store"
    values = {"source": source, "store": store, "workers": 1, "test_per_class": 5}
    return ingest(IngestConfig.parse(values | options))


def replace_owl(source: Path) -> None:
    for path in source.glob("owl.*"):
        path.unlink()
    (source / "owl.csv").write_text(HEADER + rows_of("owl"))


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_costs_its_class_and_the_rerun_reads_it_alone(fault: str, source: Path) -> None:
    store = source.parent / "store"
    BAD_FILES[fault](source / "owl.csv")
    for _ in range(2):  # the same again finds the same
        with pytest.raises(LeftOutError, match=r"1 class is left out .*owl\.csv") as caught:
            run(source)
        result = caught.value.result
        assert caught.value.exit_code == 1
        assert (result.classes, result.rows_kept) == (2, 60)
        assert Store.open(store).label_map.words == ("cat", "dog")
        assert not verify_store(store).problems
        config = IngestConfig.parse({"source": source, "store": store})
        assert prepare(config, Opened()).finished() is None
    assert result.windows_reused == 2
    replace_owl(source)
    result = run(source)
    assert (result.classes, result.windows, result.windows_reused) == (3, 3, 2)
    assert not (store / "unfinished").exists()
    assert not verify_store(store).problems


def test_a_file_whose_name_is_no_word_costs_itself_alone(source: Path) -> None:
    store = source.parent / "store"
    run(source)
    (source / "owl.csv").rename(source / "owl#1.csv")
    for _ in range(2):
        with pytest.raises(LeftOutError, match=r"'owl#1' cannot be the word of a class"):
            run(source)
        assert Store.open(store).label_map.words == ("cat", "dog")
        assert not verify_store(store).problems


def test_many_bad_files_before_the_first_good_one_cost_themselves(source: Path) -> None:
    for number in range(40):
        (source / f"a{number}.csv").write_text("")
    with pytest.raises(LeftOutError, match=r"40 classes are left out .* the other 3:"):
        run(source)


@pytest.mark.parametrize("fault", BAD_FILES)
def test_strict_stops_and_leaves_the_store_of_before_as_it_was(fault: str, source: Path) -> None:
    store = source.parent / "store"
    run(source, classes=("cat", "dog"))
    before = tree(store)
    BAD_FILES[fault](source / "owl.csv")
    with pytest.raises(InputError, match=r"owl\.csv") as caught:
        run(source, strict=True)
    assert not isinstance(caught.value, LeftOutError)
    is_work_begun = isinstance(caught.value, UnreadableError)
    assert caught.value.exit_code == (1 if is_work_begun else 2)
    after = tree(store)
    assert {path: after[path] for path in before} == before
    assert is_work_begun or after == before
    assert not verify_store(store).problems


def test_without_any_file_that_can_be_read_nothing_changes(source: Path) -> None:
    store = source.parent / "store"
    run(source)
    before = tree(store)
    for path in source.iterdir():
        path.write_text("")
    with pytest.raises(InputError, match=r"cat\.csv") as caught:
        run(source)
    assert caught.value.exit_code == 2
    for path in source.iterdir():
        path.write_text(HEADER + "nonsense\n")
    with pytest.raises(UnreadableError, match=r"no file can be used: .*cat\.csv") as caught:
        run(source)
    assert caught.value.exit_code == 1
    assert {path: tree(store)[path] for path in before} == before
    Store.open(store).verify()


def test_a_class_that_was_there_comes_back_without_a_second_reading(source: Path) -> None:
    store = source.parent / "store"
    run(source)
    before = tree(store)
    kept = source.parent / "owl.csv"
    shutil.move(source / "owl.csv", kept)  # with its time
    (source / "owl.csv").write_text("")
    with pytest.raises(LeftOutError):
        run(source)
    shutil.move(kept, source / "owl.csv")
    assert run(source).windows_reused == 3
    assert tree(store) == before


def test_a_class_that_is_left_out_repeats_no_drawing_of_another(source: Path) -> None:
    """`dog` repeats drawings of `cat`, and `owl` one of those of `dog` that are then left out."""
    repeated = rows_of("cat").replace(",cat\n", ",dog\n").splitlines(keepends=True)
    (source / "dog.csv").write_text(HEADER + rows_of("dog") + "".join(repeated[:5]))
    from_dog = rows_of("dog").replace(",dog\n", ",owl\n").splitlines(keepends=True)
    (source / "owl.csv").write_text(HEADER + rows_of("owl", 200) + from_dog[0])
    with pytest.raises(LeftOutError, match=r"dog\.csv.*5 of 35 rows") as caught:
        run(source)
    assert caught.value.result.rejected == {}
    assert caught.value.result.rows_kept == 30 + 201


@pytest.mark.parametrize("fresh", [False, True])
def test_a_stage_that_fails_leaves_the_last_good_store_to_be_read(
    fresh: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = source.parent / "store"
    run(source)
    before = tree(store)
    shutil.copytree(store, source.parent / "expected")
    (source / "owl.csv").write_text(HEADER + rows_of("owl", 40))
    expected = Store.open(run(source, store=source.parent / "expected", fresh=fresh).store)
    write_part = tasks.write_part

    def full(table: Any, storage: Any, name: str) -> Any:
        if "word=owl" in name:
            raise OSError(28, "No space left on device")
        return write_part(table, storage, name)

    monkeypatch.setattr(tasks, "write_part", full)
    with pytest.raises(WriteError, match="no space left on the device"):
        run(source, fresh=fresh)
    monkeypatch.undo()
    assert {path: tree(store)[path] for path in before} == before
    Store.open(store).verify()
    assert not verify_store(store).problems
    result = run(source)  # without --fresh goes on from there
    assert not result.skipped
    assert result.windows_reused == 2
    assert Store.open(store).manifest.fingerprint == expected.manifest.fingerprint
    assert tree(store) == tree(expected.path)
