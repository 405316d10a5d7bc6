"""What Kaggle would refuse of a submission is named."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from quickdraw_core.challenge.check_submission import CHALLENGE_ROWS, check_submission
from quickdraw_core.challenge.submission import write_submission
from quickdraw_core.cli import app
from quickdraw_core.errors import InputError
from quickdraw_core.formats.fields import parse_key_id
from quickdraw_core.formats.rows import RowError
from quickdraw_core.inference.ensemble import load_models

RIGHT = "ice_cream sun cat"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "submission.csv"
    path.write_text("\n".join(["key_id,word", *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("5.04787e+15,cat", "line 3: key_id went through a float"),
        ("9000000000000001.0,cat", "line 3: key_id went through a float"),
        ("-3,cat", "line 3: key_id is negative"),
        (",cat", "line 3: key_id is missing"),
        ("3,ice cream", "line 3: no class 'ice'"),
        ("3,ice_crean", "did you mean 'ice_cream'"),
        ("3,", "line 3: 0 words"),
        ("3,cat sun bird dog", "line 3: 4 words"),
        ("3,cat sun cat", "line 3: the same word twice"),
        ("3,cat,sun", "line 3: 3 fields"),
        ("1,cat", "1 key_ids stand more than once: 1"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(line: str, problem: str, tmp_path: Path) -> None:
    found = check_submission(written(tmp_path, f"1,{RIGHT}", line))
    assert any(problem in text for text in found.problems), found.problems
    assert found.rows == 2
    done = CliRunner().invoke(app, ["check-submission", str(found.path)])
    assert done.exit_code == 1
    assert f"problem: {found.problems[0]}" in done.stdout


def test_no_word_is_looked_for_in_lines_that_are_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs some 10 ms, and a submission has 112,199 lines."""
    asked: list[str] = []
    monkeypatch.setattr(
        "quickdraw_core.challenge.check_submission.nearest",
        lambda word, *_, **__: asked.append(word) or "known",
    )
    lines = [f"{key_id},ice cream" for key_id in range(50)]
    problems = check_submission(written(tmp_path, *lines)).problems
    assert problems[:2] == [f"line {line}: no class 'ice': known" for line in (2, 3)]
    assert "… and 40 more lines" in problems
    assert asked == ["ice"] * 10


def test_a_submission_of_the_challenges_size_is_right(tmp_path: Path) -> None:
    key_ids = np.arange(9_000_000_000_000_000, 9_000_000_000_000_000 + CHALLENGE_ROWS)
    path = written(tmp_path, *(f"{key_id},{RIGHT}" for key_id in key_ids))
    assert check_submission(path).problems == []
    path.write_text("".join(path.read_text().splitlines(True)[:-1]))
    (problem,) = check_submission(path).problems
    assert problem == "112,198 rows; the challenge's test set has 112,199"


def test_it_is_held_against_a_test_file(trained: Path, csv_folder: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("".join((csv_folder / "sun.csv").read_text().splitlines(True)[:6]))
    out = tmp_path / "s.csv"
    result = write_submission(load_models([str(trained)]), test, out)
    assert result.notes == ["5 rows; the challenge's test set has 112,199"]
    assert check_submission(out, str(test)).problems == []
    lines = out.read_text().splitlines()
    out.write_text("\n".join([*lines[:-1], f"7,{RIGHT}"]) + "\n")
    missing, strange = check_submission(out, str(test)).problems
    assert "1 rows of" in missing
    assert lines[-1].split(",")[0] in missing
    assert "1 key_ids are not in" in strange


def test_predict_names_rows_that_stand_twice(
    trained: Path, csv_folder: Path, tmp_path: Path
) -> None:
    lines = (csv_folder / "sun.csv").read_text().splitlines(True)
    (tmp_path / "test.csv").write_text("".join([*lines[:4], lines[1]]))
    models = load_models([str(trained)])
    result = write_submission(models, tmp_path / "test.csv", tmp_path / "s.csv")
    assert "1 key_ids stand more than once" in result.notes[0]


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,label\n1,cat\n")
    with pytest.raises(InputError, match="its first line is 'id,label'"):
        check_submission(tmp_path / "a.csv")
    with pytest.raises(InputError, match="cannot read the submission"):
        check_submission(tmp_path / "none.csv")


@pytest.mark.parametrize("text", ["5.04787e+15", "5e15", "5.0", "5E+15", "504787."])
def test_a_float_is_no_key_id(text: str) -> None:
    with pytest.raises(RowError, match="went through a float"):
        parse_key_id(text)
