import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest import row_index
from quickdraw_core.ingest.row_index import STRIDE, index_rows, read_window
from quickdraw_core.ingest.windows import WINDOW_ROWS, RowSelection, Window, select_windows


def write_rows(path: Path, rows: int, last_newline: bool = True) -> None:
    body = "".join(f'{i},"a, b{i % 7}"\n' for i in range(rows))
    path.write_text("number,text\n" + (body if last_newline else body.removesuffix("\n")))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3 * STRIDE), st.data(), st.booleans())
def test_a_window_is_what_pandas_reads(rows: int, data: st.DataObject, last: bool) -> None:
    skiprows = data.draw(st.integers(0, rows - 1))
    nrows = data.draw(st.integers(1, 50))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_rows(path, rows, last)
        index = index_rows(path)
        assert index.rows == rows
        block = skiprows // STRIDE
        window = Window(skiprows, nrows)
        lines = list(read_window(path, index.offsets[block], block * STRIDE, window))
        expected = pd.read_csv(path, skiprows=range(1, skiprows + 1), nrows=nrows)
    assert [int(line.split(b",")[0]) for line in lines] == expected["number"].tolist()


def test_the_index_is_the_same_whatever_the_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    write_rows(path, 2 * STRIDE + 5)
    whole = index_rows(path)
    assert len(whole.offsets) == 3
    monkeypatch.setattr(row_index, "_BLOCK_BYTES", 1013)
    assert index_rows(path) == whole


@pytest.mark.parametrize(("text", "rows"), [("", 0), ("header\n", 0), ("header", 0)])
def test_files_without_rows_have_none(tmp_path: Path, text: str, rows: int) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    assert index_rows(path).rows == rows


selections = st.one_of(
    st.just("all"),
    st.integers(1, 500_000).map(lambda n: f"head:{n}"),
    st.tuples(st.integers(1, 20), st.integers(1, 20_000)).map(lambda p: f"spread:{p[0]}x{p[1]}"),
)


@given(selections, st.integers(0, 300_000), st.integers(0, 5))
def test_windows_are_in_order_apart_bounded_and_as_many_rows_as_asked(
    text: str, rows: int, seed: int
) -> None:
    selection = RowSelection.parse(text)
    windows = select_windows(selection, rows, "cat", seed)
    wanted = rows if selection.kind == "all" else selection.windows * selection.rows
    assert sum(window.nrows for window in windows) == min(rows, wanted)
    assert all(0 < window.nrows <= WINDOW_ROWS for window in windows)
    end = 0
    for window in windows:
        assert window.skiprows >= end
        end = window.skiprows + window.nrows
    assert end <= rows
    assert windows == select_windows(selection, rows, "cat", seed)


def test_spread_windows_differ_by_word_and_seed() -> None:
    spread = RowSelection.parse("spread:3x10")
    chosen = {
        tuple(select_windows(spread, 100_000, word, seed))
        for word in ("cat", "dog")
        for seed in (0, 1)
    }
    assert len(chosen) == 4


@pytest.mark.parametrize("text", ["", "some", "head:", "head:0", "head:-1", "spread:3", "tail:9"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="rows must"):
        RowSelection.parse(text)
