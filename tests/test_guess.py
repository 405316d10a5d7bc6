"""`quickdraw guess`: drawings out of files of any form; a bad file costs that file."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bundles import made_bundle
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.reading import strokes_of_picture
from quickdraw_core.formats.pictures.strokes import PictureStrokes
from quickdraw_core.serving.drawing_files import FileDrawing, FileProblem, drawings_of, files_of

SQUARE = [[[0, 255, 255, 0, 0], [0, 0, 255, 255, 0]]]
RAW = [[[x * 3.5 for x in xs], [y * 3.5 for y in ys], [0, 1, 2, 3, 4]] for xs, ys in SQUARE]


def read_picture(data: bytes) -> PictureStrokes:
    """In this process, which is quicker than to start one."""
    return strokes_of_picture(open_picture(data))


def items_of(file: str) -> Iterator[FileDrawing | FileProblem]:
    return drawings_of(file, read_picture)


def picture(path: Path, form: str, mode: str = "RGB") -> Path:
    """A black square on white."""
    drawn = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(drawn).rectangle((50, 60, 250, 260), outline="black", width=5)
    drawn.convert(mode).save(path, form)
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A folder with a square in every form."""
    folder = tmp_path / "drawn"
    (folder / "deep").mkdir(parents=True)
    picture(folder / "a.png", "PNG")
    picture(folder / "b.jpg", "JPEG", "CMYK")
    picture(folder / "deep" / "c.webp", "WEBP")
    (folder / "d.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" '
        'fill="white"/><path stroke="red" d="M1 1h7v7H1z" transform="scale(2)"/></svg>'
    )
    rows = [{"word": "square", "drawing": SQUARE}, {"key_id": "7", "drawing": RAW}, SQUARE]
    (folder / "e.ndjson.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (folder / "f.csv").write_text(f'key_id,countrycode,drawing\n5,DE,"{SQUARE}"\n')
    (folder / "notes.txt").write_text("not taken")
    return folder


def test_a_square_is_a_square_in_every_form(drawn: Path) -> None:
    found = [item for file in files_of([str(drawn)]) for item in items_of(file)]
    assert [Path(item.name).name for item in found] == [
        *("a.png", "b.jpg", "d.svg", "c.webp"),
        *("e.ndjson.gz:1", "e.ndjson.gz:2", "e.ndjson.gz:3", "f.csv:2"),
    ]
    for item in found:
        assert isinstance(item, FileDrawing), item
        x, y = item.drawing.x.astype(int), item.drawing.y.astype(int)
        assert len(item.drawing.stroke_lengths) == 1
        corners = np.minimum(abs(x), abs(255 - x)) + np.minimum(abs(y), abs(255 - y))
        assert corners.max() <= 8, (item.name, x, y)
    assert found[4].facts == {"word": "square"}
    assert found[5].facts == {"key_id": "7"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"hello\n", "no picture"),
        (b"GIF89a....", "a GIF file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "damaged"),
        (b"\x1f\x8bbroken", "cut short or damaged"),
        (b'{"drawing": []}\n', "drawing has no stroke"),
        (b'{"drawing": [[[1, 2], [3]]]}\n', "x and y differ"),
        (b"{}\n[\n", "drawing has no stroke"),
        (b'key_id,drawing\n1,"[["\n', "not CSV with a drawing"),
        (b'caf\xe9,drawing\n1,"[[[1],[2]]]"\n', "header is not CSV in UTF-8"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><path d='M0 0", "no whole XML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "draws nothing"),
        (b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg>&a;</svg>", "entities"),
    ],
)
def test_what_gives_no_drawing_says_why(content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    (first, *_) = items_of(str(file))
    assert isinstance(first, FileProblem)
    assert problem in first.problem


def test_a_missing_file_is_a_problem_and_an_empty_folder_an_error(tmp_path: Path) -> None:
    (missing,) = items_of(str(tmp_path / "none.png"))
    assert isinstance(missing, FileProblem)
    with pytest.raises(InputError, match="holds no drawing"):
        files_of([str(tmp_path)])
    with pytest.raises(InputError, match="read once"):
        files_of(["-", "-"])


def test_the_command_guesses_all_files_but_the_bad_one(drawn: Path, tmp_path: Path) -> None:
    made_bundle(tmp_path / "bundle")
    (drawn / "broken.png").write_bytes((drawn / "a.png").read_bytes()[:200])
    words = ["guess", str(tmp_path / "bundle"), str(drawn), "--json", "--guesses", "2"]
    done = CliRunner().invoke(app, [*words, "--explain", str(tmp_path / "explained")])
    assert done.exit_code == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    assert "broken.png: the picture is damaged" in done.stderr
    for row in rows:
        (first, second) = row["guesses"]
        assert 1 >= first["probability"] >= second["probability"] >= 0
    assert {path.name for path in (tmp_path / "explained").iterdir()} == {
        f"{stem}-explained.png"
        for stem in ("a", "b", "c", "d", "e.ndjson-1", "e.ndjson-2", "e.ndjson-3", "f-2")
    }


def test_a_model_of_two_words_guesses_both_unless_more_are_asked_for(
    drawn: Path, tmp_path: Path
) -> None:
    made_bundle(tmp_path / "bundle", words=("cat", "dog"))
    words = ["guess", str(tmp_path / "bundle"), str(drawn / "a.png")]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert len(json.loads(done.stdout)["guesses"]) == 2
    refused = CliRunner().invoke(app, [*words, "--guesses", "3"]).exception
    assert "--guesses 3 is more than the 2 words" in str(refused)


def test_figures_replace_nothing_but_figures(tmp_path: Path) -> None:
    made_bundle(tmp_path / "bundle")
    (folder := tmp_path / "drawn").mkdir()
    cat = picture(folder / "cat.png", "PNG").read_bytes()
    (folder / "cat-explained.png").write_bytes(b"of someone else")
    words = ["guess", str(tmp_path / "bundle"), str(folder), "--explain", str(folder)]
    for _ in range(2):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert (folder / "cat.png").read_bytes() == cat
        assert (folder / "cat-explained.png").read_bytes() == b"of someone else"
        assert len(list(folder.iterdir())) == 3
    (folder / "link").symlink_to(tmp_path / "nowhere")
    done = CliRunner().invoke(app, [*words[:-1], str(folder / "link")])
    assert isinstance(done.exception, ConfigError)
    assert "a broken link" in str(done.exception)


def test_a_name_that_no_file_can_have_costs_that_name_alone(tmp_path: Path) -> None:
    square = picture(tmp_path / "a.png", "PNG")
    first, second = files_of(["x" * 300, str(square)])
    assert isinstance(next(items_of(first)), FileProblem)
    assert isinstance(next(items_of(second)), FileDrawing)


def test_a_stream_may_hand_out_a_byte_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(1, len(self.getbuffer()) if size is None else size))

    data = gzip.compress(json.dumps({"drawing": SQUARE}).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Slow(data)))
    (found,) = items_of("-")
    assert isinstance(found, FileDrawing), found


def test_standard_input_may_be_a_picture(tmp_path: Path) -> None:
    made_bundle(tmp_path / "bundle")
    data = picture(tmp_path / "a.png", "PNG").read_bytes()
    done = CliRunner().invoke(app, ["guess", str(tmp_path / "bundle"), "-"], input=data)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("standard input: ")
