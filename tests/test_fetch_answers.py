"""A server that lies, refuses or is busy: what is asked again, and what is an error."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from download_server import (
    Served,
    Server,
    drawings,
    md5_header,
    require_refused,
    require_whole,
    run,
    serving,
)
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.errors import InputError
from quickdraw_core.sources.fetch import fetch
from quickdraw_core.sources.fetch_config import FetchConfig
from quickdraw_core.system.retries import Attempts, PassingError

# Lies about sizes.


@pytest.mark.parametrize("ranges", [True, False])
def test_a_size_too_large_is_noticed(server: Server, tmp_path: Path, ranges: bool) -> None:
    lie = {"head_size": 5000, "get_size": 5000}
    server.files = {"cat": Served(drawings(4000), ranges=ranges, **lie)}
    message = r"1 of 2 files .* cat\.ndjson: got 4,000 bytes, expected 5,000"
    require_refused(server, tmp_path, message)
    assert 4 <= len(server.of("cat")) <= 8


def test_a_size_too_small_is_noticed_by_its_last_line(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(4000), head_size=3000, get_size=3000)}
    require_refused(server, tmp_path, r"cat\.ndjson: got 3,000 bytes as stated, expected more")


def test_a_size_too_small_is_noticed_by_its_checksum(server: Server, tmp_path: Path) -> None:
    body = drawings(4000)
    lie = {"head_size": 3000, "get_size": 3000}
    server.files = {"cat": Served(body, hashes=(md5_header(body),), **lie)}
    require_refused(server, tmp_path, r"cat\.ndjson: got 3,000 bytes as expected, but of md5")


def test_two_sizes_for_one_file_are_noticed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(4000), head_size=3000)}
    require_refused(server, tmp_path, r"cat\.ndjson: got an answer of 4,000 .* expected 3,000")


def test_more_than_was_stated_is_noticed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(4000), head_size=3000, get_size=-1)}
    require_refused(server, tmp_path, r"cat\.ndjson: got at least 4,000 bytes, expected 3,000")


def test_less_than_was_stated_is_noticed(server: Server, tmp_path: Path) -> None:
    served = Served(drawings(4000), head_size=5000, get_size=-1, etag=None)
    server.files = {"cat": served}
    require_refused(server, tmp_path, r"cat\.ndjson: got 4,000 bytes, expected 5,000")


def test_a_size_that_is_a_passing_lie_costs_an_attempt(server: Server, tmp_path: Path) -> None:
    def tell_the_truth(served: Served) -> None:
        served.get_size = None

    server.files = {"cat": Served(drawings(4000), get_size=100, after_get=tell_the_truth)}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_what_comes_compressed_unasked_is_refused(server: Server, tmp_path: Path) -> None:
    packed = (200, {"Content-Length": "1000", "Content-Encoding": "gzip"})
    server.files = {"cat": Served(drawings(2000), head_answers=[packed])}
    require_refused(server, tmp_path, r"cat\.ndjson: the server sends it as gzip, unasked")


def test_a_file_without_a_size_is_refused(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(2000), head_status=405, get_size=-1)}
    require_refused(server, tmp_path, r"cat\.ndjson: the server states no size")


# Checksums.


def test_a_wrong_checksum_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), hashes=(md5_header(b"else"),))}
    require_refused(server, tmp_path, r"cat\.ndjson: got 1,000 bytes as expected, but of md5 ")
    assert len(server.of("cat")) == 4


def test_a_damaged_part_is_found_by_the_checksum_of_the_whole(
    server: Server, tmp_path: Path
) -> None:
    body = drawings(100_000)
    server.files = {"cat": Served(body, cuts=[40_000] + [0] * 3)}
    # As Google sends them: two headers of one name.
    server.files["cat"].hashes = ("crc32c=AAAAAA==", md5_header(body))
    with pytest.raises(InputError):
        run(server, tmp_path)
    with (tmp_path / ".cat.ndjson.part").open("r+b") as file:
        file.write(b"damage")
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert result.received_bytes == 60_000 + 100_000


# What the server answers instead.


def test_missing_files_are_named_and_the_others_are_there(server: Server, tmp_path: Path) -> None:
    server.files = {word: Served(drawings(1000)) for word in ("cat", "dog", "bee")}
    asked = (*server.files, "The Mona Lisa", "t-shirt")
    message = r"2 of 5 files .* missing there: The Mona Lisa\.ndjson, t-shirt\.ndjson; all others"
    with pytest.raises(InputError, match=message):
        run(server, tmp_path, classes=asked)
    require_whole(server, tmp_path)
    # What is not there is not asked for again and again.
    assert len(server.of("t-shirt", "HEAD")) == 1


def test_nothing_but_missing_files_points_to_the_address(server: Server, tmp_path: Path) -> None:
    server.files = {}
    with pytest.raises(InputError, match=r"340 of 340 files .* 320 more; check the base URL"):
        run(server, tmp_path, classes=None)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
@pytest.mark.parametrize("answers", ["head_answers", "get_answers"])
def test_a_busy_server_is_asked_again(
    server: Server, tmp_path: Path, status: int, answers: str
) -> None:
    served = Served(drawings(1000))
    server.files = {"cat": replace(served, **{answers: [(status, {})] * 3})}
    run(server, tmp_path)
    require_whole(server, tmp_path)


def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), head_answers=[(403, {})])}
    require_refused(server, tmp_path, r"cat\.ndjson: the server answers 403")
    assert len(server.of("cat", "HEAD")) == 1


def test_retry_after_is_heeded(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), get_answers=[(429, {"Retry-After": "1"})])}
    begun = time.monotonic()
    run(server, tmp_path)
    assert time.monotonic() - begun >= 1
    require_whole(server, tmp_path)


@given(failures=st.integers(1, 100), backoff=st.floats(0.001, 10), asked=st.floats(0, 1e9))
def test_pauses_grow_and_end(failures: int, backoff: float, asked: float) -> None:
    attempts = Attempts(failures, backoff)
    for _ in range(failures):
        pause = attempts.failed(PassingError("busy", asked))
    assert pause is not None
    assert min(asked, 60) <= pause <= 60
    assert pause >= min(backoff * 2 ** (failures - 1) / 2, 60)
    assert attempts.failed(PassingError("busy")) is None


def test_a_server_that_is_away_ends_the_call_at_once(tmp_path: Path) -> None:
    with serving() as server:
        url = server.url
    config = {"folder": tmp_path, "base_url": url, "retries": 2, "backoff_seconds": 0.001}
    with pytest.raises(InputError, match=r"^no answer from http.*: Connection refused \(att"):
        fetch(FetchConfig.parse(config))


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), pause_at=0)}
    with pytest.raises(InputError, match=r"cat\.ndjson: got 0 bytes, expected 1,000: .*timed out"):
        run(server, tmp_path, timeout_seconds=1.0, retries=1)


def test_a_password_in_the_address_is_used_and_not_told(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[500, 0, 0, 0])}
    url = server.url.replace("http://", "http://user:secret@")
    with pytest.raises(InputError) as caught:
        run(server, tmp_path, base_url=url)
    assert server.of("cat")[0].headers["Authorization"].startswith("Basic ")
    note = (tmp_path / ".cat.ndjson.part.json").read_text()
    assert "secret" not in str(caught.value) + note
