"""`quickdraw play` as a user starts it: the guesses of real drawings, from pen to download."""

import csv
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import browser
from command_line import command, environment_of, quickdraw
from game_page import downloaded, draw, page_at, rows_of, settle, shown_guesses
from service import until

from flows import temporary_server
from quickdraw_core.commands import jobs
from quickdraw_core.exporting.open_recognizer import open_recognizer
from quickdraw_core.formats.raw_drawing import drawing_of_raw
from quickdraw_core.serving.recognizer import top_guesses
from quickdraw_core.serving.web.config import ServeConfig
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.store import Store
from quickdraw_core.system.child_environment import program_to_type
from quickdraw_core.training.run_folder import newest_run, store_of_model

DRAWINGS = 20


def port_taken(port: int) -> socket.socket:
    """A socket that listens there, if no other program does already."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):
        listener.bind(("127.0.0.1", port))
        listener.listen()
    return listener


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "runs").mkdir()
    (folder / "runs" / "trained").symlink_to(trained)
    return folder


@pytest.fixture(scope="module")
def played(folder: Path) -> Iterator[tuple[str, str]]:
    """What `quickdraw play` prints, and its address; it is ended by Ctrl-C. Its usual port is
    taken, and its browser is a program that writes down what it is to open.
    """
    program = folder / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >> "{folder / "opened"}"\n')
    program.chmod(0o755)
    environment = environment_of(folder) | {"BROWSER": str(program)}
    with (
        closing(port_taken(ServeConfig().port)),
        subprocess.Popen(
            [*command(), "play"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        try:
            assert address is not None, printed
            yield printed, address[0]
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def drawings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list:
    """Real drawings that no training saw, or generated ones where they are not."""
    try:
        file = request.getfixturevalue("shared_data") / "test_simplified.csv"
    except pytest.skip.Exception:
        folder = tmp_path_factory.mktemp("doodles")
        generate_csvs(folder, ["star"], 500, seed=9)
        file = folder / "star.csv"
    with file.open(newline="") as rows:
        return [json.loads(row["drawing"]) for row in islice(csv.DictReader(rows), 0, 500, 25)]


@pytest.mark.services
def test_guesses_are_those_of_the_recognizer_on_the_strokes_of_the_download(
    played: tuple[str, str], trained: Path, drawings: list, store: Store
) -> None:
    printed, address = played
    assert "newest run   runs/trained" in printed
    recognizer = open_recognizer(str(trained))
    assert len(drawings) == DRAWINGS
    with browser() as chromium, page_at(chromium, address, "#draw") as seen:
        page = seen.page
        page.get_by_text("Keep, share, open").click()
        answers = []
        page.on("response", lambda got: answers.append(got) if "api/guess" in got.url else None)
        for drawing in drawings:
            draw(page, drawing)
            settle(page)
            ((row),) = rows_of(*downloaded(page, "#strokes"))
            batch = drawing_of_raw([(x, y) for x, y, _ in row["drawing"]])
            (expected,) = top_guesses(
                recognizer.log_probabilities(batch), recognizer.label_map, count=5
            )
            answer = answers[-1].json()
            assert [guess["word"] for guess in answer["guesses"]] == [g.word for g in expected]
            assert [guess["probability"] for guess in answer["guesses"]] == pytest.approx(
                [guess.probability for guess in expected], abs=1e-6
            )
            assert answer["drawing"] == [[list(x), list(y)] for x, y in batch.strokes(0)]
            assert [word for word, _ in shown_guesses(page)] == [g.word for g in expected]
            assert len(row["drawing"]) == len(drawing)
            page.locator("#clear").click()
        word = store.label_map.words[0]
        found = page.request.get(f"{address}/api/words/{word}/drawings?count=3").json()
        assert len(found["drawings"]) == 3  # of the store that the model was trained on


@pytest.mark.services
def test_the_page_is_opened_at_a_free_port_if_the_usual_one_is_taken(
    played: tuple[str, str], folder: Path
) -> None:
    printed, address = played
    port = ServeConfig().port
    assert f"{port} is taken, so any free one" in " ".join(printed.split())
    assert not address.endswith(f":{port}")
    until((folder / "opened").exists, 60, "the browser")
    until((folder / "opened").read_text, 60, "the page")
    assert (folder / "opened").read_text() == f"{address}\n"


def test_the_demo_says_at_its_end_how_to_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "demo-1"
    result = SimpleNamespace(train=SimpleNamespace(run_dir=run))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(temporary_server, "begin_temporary_server", lambda: None)
    monkeypatch.setattr(jobs, "generate_csvs_into", lambda *values: None)
    monkeypatch.setattr(jobs, "_run_job", lambda job, prefect: result)
    jobs.demo(tmp_path / "demo")
    last = " ".join(capsys.readouterr().out.split())
    program = program_to_type("quickdraw")
    assert last.endswith(
        f"play {program} play runs/demo-1 (opens a page on which you draw and the model guesses)"
    )


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    result = quickdraw("play", cwd=tmp_path)
    assert result.returncode == 2
    assert f"there is no trained model in {tmp_path / 'runs'}" in result.stderr
    assert "quickdraw play MODEL" in result.stderr


def test_the_newest_run_is_that_of_the_newest_best_checkpoint(
    tmp_path: Path, trained: Path, store: Store
) -> None:
    assert newest_run(tmp_path) is None
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text("{}")  # it has no checkpoint yet
    assert newest_run(tmp_path) is None
    (tmp_path / "done").symlink_to(trained)
    assert newest_run(tmp_path) == tmp_path / "done"
    assert store_of_model(trained) == store.path
    assert store_of_model(next((trained / "checkpoints").glob("step-*.pt"))) == store.path
    assert store_of_model(tmp_path) is None
