"""What is fetched under which name, what is left alone, and how many files at a time."""

from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from download_server import FOLDERS, Served, Server, drawings, require_whole, run

from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.labels import challenge_words
from quickdraw_core.progress import report_to
from quickdraw_core.sources.fetch_config import FetchConfig, chosen_words

# What is fetched, from where, under which name.


@pytest.mark.parametrize("file_format", FOLDERS)
def test_files_come_in_google_s_layout(server: Server, tmp_path: Path, file_format: str) -> None:
    words = ("The Eiffel Tower", "t-shirt", "knife")
    server.files = {word: Served(drawings(1000 + n, n)) for n, word in enumerate(words)}
    result = run(server, tmp_path, classes=("The_Eiffel_Tower", *words[1:]), format=file_format)
    require_whole(server, tmp_path)
    assert result.fetched == ("The Eiffel Tower", "knife", "t-shirt")
    assert result.size_bytes == result.received_bytes == 3003
    (request,) = server.of("The Eiffel Tower")
    assert request.path == f"/{file_format}/The%20Eiffel%20Tower{FOLDERS[file_format]}"
    assert request.headers["Accept-Encoding"] == "identity"


def test_google_s_345_words_are_known_and_the_challenge_s_340_are_the_default(
    tmp_path: Path,
) -> None:
    assert chosen_words(FetchConfig(folder=tmp_path)) == challenge_words()
    further = ("aircraft carrier", "knife", "lighter", "rifle", "syringe")
    everything = FetchConfig(folder=tmp_path, classes=(*challenge_words(), *further))
    assert len(chosen_words(everything)) == 345


def test_an_unknown_word_is_refused_before_any_work(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(b"")}
    with pytest.raises(InputError, match="'eifel tower': did you mean 'The Eiffel Tower'"):
        run(server, tmp_path / "new", classes=("cat", "eifel_tower"))
    assert not server.requests
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "simple"}, "option 'format': did you mean 'simplified'"),
        ({"base_url": "ftp://host/x"}, "https://host/folder"),
        ({"base_url": "http://host/x?key=1"}, "must end before"),
        ({"parallel": 0}, "option 'parallel'"),
    ],
)
def test_a_bad_option_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FetchConfig.parse({"folder": tmp_path} | options)


def test_a_file_of_no_bytes_is_a_file(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(b"")}
    assert run(server, tmp_path).fetched == ("cat",)
    require_whole(server, tmp_path)


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_without_head_is_asked_by_get(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.files = {"cat": Served(drawings(1000), head_status=status)}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000)), "dog": Served(drawings(1000))}
    away = (302, {"Location": "/simplified/cat.ndjson"})
    server.files["dog"].head_answers, server.files["dog"].get_answers = [away], [away]
    run(server, tmp_path)
    require_whole(server, tmp_path)


# What is there is not fetched again.


def test_finished_files_are_left_alone(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000)), "dog": Served(drawings(2000))}
    run(server, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ndjson")}
    server.requests.clear()
    result = run(server, tmp_path)
    assert result.present == ("cat", "dog")
    assert (result.fetched, result.received_bytes, result.size_bytes) == ((), 0, 3000)
    assert {request.method for request in server.requests} == {"HEAD"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ndjson")} == times


def test_a_file_of_another_size_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000))}
    (tmp_path / "cat.ndjson").write_bytes(drawings(999))
    assert run(server, tmp_path).fetched == ("cat",)
    require_whole(server, tmp_path)


def test_an_old_file_stays_until_the_new_one_is_whole(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[500] * 9, ranges=False)}
    old = drawings(999)
    (tmp_path / "cat.ndjson").write_bytes(old)
    with pytest.raises(InputError):
        run(server, tmp_path)
    assert (tmp_path / "cat.ndjson").read_bytes() == old


def test_two_formats_do_not_share_a_folder(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000))}
    run(server, tmp_path)
    with pytest.raises(ConfigError, match="holds simplified files; give raw ones another folder"):
        run(server, tmp_path, format="raw")
    (tmp_path / "cat.ndjson").unlink()
    run(server, tmp_path, format="raw")
    require_whole(server, tmp_path)


# Several at a time.


def test_as_many_connections_as_asked_for(server: Server, tmp_path: Path) -> None:
    words = challenge_words()[:12]
    server.files = {word: Served(drawings(3000, n)) for n, word in enumerate(words)}
    server.meet = Barrier(3)  # none goes on before three are there
    run(server, tmp_path, parallel=3)
    require_whole(server, tmp_path)
    assert server.most_busy == 3


class Bars:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.bars: dict[str, list[float]] = {}

    def open(self, name: str, total: float | None, unit: str) -> "Bars.Bar":
        self.bars[f"{name} {total} {unit}"] = done = []
        return Bars.Bar(done)

    def close(self, bar: object) -> None:
        pass

    class Bar:
        def __init__(self, done: list[float]) -> None:
            self.done = done

        def advance(self, amount: float) -> None:
            self.done.append(amount)

        def expect(self, total: float) -> None:
            pass

        def note(self, text: str) -> None:
            pass


def test_progress_is_told_in_bytes_and_never_goes_back(server: Server, tmp_path: Path) -> None:
    sizes = {"cat": 100_000, "dog": 50_000}
    server.files = {word: Served(drawings(size)) for word, size in sizes.items()}
    server.files["cat"] = replace(server.files["cat"], ranges=False, cuts=[40_000, 20_000])
    bars = Bars()
    with report_to(bars):
        run(server, tmp_path)
    assert set(bars.bars) == {"ask 2 files", "fetch 150000 bytes"}
    advances = bars.bars["fetch 150000 bytes"]
    assert sum(advances) == 150_000
    assert min(advances) > 0
