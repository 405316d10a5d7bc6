"""A download goes on after its connection was cut, and never mixes two versions of a file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from download_server import Served, Server, drawings, md5_header, require_whole, run, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_core.errors import InputError

# Cut connections.


def test_a_cut_connection_is_continued_however_often(server: Server, tmp_path: Path) -> None:
    body = drawings(300_000)
    server.files = {"cat": Served(body, cuts=[30_000] * 9, hashes=(md5_header(body),))}
    result = run(server, tmp_path, retries=1)
    require_whole(server, tmp_path)
    assert len(server.of("cat")) == 10
    assert server.sent_bytes() == result.received_bytes == len(body)
    first, *further = server.of("cat")
    assert "Range" not in first.headers
    assert [request.headers["Range"] for request in further] == [
        f"bytes={30_000 * n}-" for n in range(1, 10)
    ]
    assert {request.headers["If-Range"] for request in further} == {'"1"'}


@given(
    size=st.integers(0, 200_000),
    cuts=st.lists(st.integers(0, 150_000), max_size=4),
    ranges=st.booleans(),
    chunked=st.booleans(),
    etag=st.sampled_from(['"1"', 'W/"1"', None]),
)
@settings(max_examples=40, deadline=None)
def test_wherever_the_connection_is_cut_the_bytes_are_the_server_s(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    cuts: list[int],
    ranges: bool,
    chunked: bool,
    etag: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with serving() as server:
        served = Served(drawings(size), etag=etag, ranges=ranges, cuts=cuts)
        server.files = {"cat": replace(served, get_size=-1 if chunked else None)}
        run(server, folder, retries=4)
        require_whole(server, folder)


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    body = drawings(100_000)
    server.files = {"cat": Served(body, ranges=False, cuts=[40_000, 60_000])}
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert result.received_bytes == 200_000


def test_a_line_that_brings_nothing_new_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(100_000), ranges=False, cuts=[40_000] * 99)}
    with pytest.raises(InputError, match=r"cat\.ndjson: got 40,000 bytes, expected 100,000.*4\)"):
        run(server, tmp_path)
    # The attempt that brought the first bytes counts as progress.
    assert len(server.of("cat")) == 4
    assert not (tmp_path / "cat.ndjson").exists()


def test_the_next_call_continues_what_was_given_up(server: Server, tmp_path: Path) -> None:
    body = drawings(100_000)
    server.files = {"cat": Served(body, cuts=[40_000] + [0] * 4)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    server.requests.clear()
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert (result.continued, result.received_bytes) == (("cat",), 60_000)


# Files that change on the server.


def changing(new: Served) -> Callable[[Served], None]:
    """After the next GET, the file is another one."""

    def change(served: Served) -> None:
        vars(served).update(vars(new))

    return change


@pytest.mark.parametrize(
    ("old_marks", "new_marks"),
    [
        ({"etag": '"1"'}, {"etag": '"2"'}),
        ({"etag": '"1"'}, {"etag": '"2"', "heeds_if_range": False}),
        ({"etag": 'W/"1"'}, {"etag": 'W/"2"', "heeds_if_range": False}),
        ({"etag": None}, {"etag": None, "heeds_if_range": False}),
        (
            {"etag": None, "modified": "Mon, 01 May 2017 10:00:00 GMT"},
            {"etag": None, "modified": "Tue, 02 May 2017 10:00:00 GMT"},
        ),
    ],
)
@pytest.mark.parametrize("new_size", [60_000, 100_000, 130_000])
def test_two_versions_are_never_mixed(
    server: Server,
    tmp_path: Path,
    old_marks: dict[str, object],
    new_marks: dict[str, object],
    new_size: int,
) -> None:
    new = Served(drawings(new_size, seed=2), **new_marks)
    old = Served(drawings(100_000, seed=1), cuts=[70_000], after_get=changing(new), **old_marks)
    server.files = {"cat": old}
    run(server, tmp_path)
    assert (tmp_path / "cat.ndjson").read_bytes() == drawings(new_size, seed=2)


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_between_the_answers_is_fetched_anew(
    server: Server, tmp_path: Path, heeds_if_range: bool
) -> None:
    """It is still the old one when the size is asked for, and new when the rest is."""
    old = Served(drawings(100_000, seed=1), cuts=[70_000] + [0] * 3)
    server.files = {"cat": old}
    with pytest.raises(InputError):
        run(server, tmp_path)
    new = Served(drawings(100_000, seed=2), etag='"2"', heeds_if_range=heeds_if_range)
    new.head_answers = [(200, {"ETag": '"1"', "Content-Length": "100000"})]
    server.files = {"cat": new}
    result = run(server, tmp_path)
    require_whole(server, tmp_path)
    assert result.received_bytes == 100_000


@pytest.mark.parametrize("note", ["{", '{"url": 1}', None])
def test_bytes_of_unknown_origin_are_not_continued(
    server: Server, tmp_path: Path, note: str | None
) -> None:
    server.files = {"cat": Served(drawings(1000))}
    (tmp_path / ".cat.ndjson.part").write_bytes(b"?" * 400)
    if note is not None:
        (tmp_path / ".cat.ndjson.part.json").write_text(note)
    assert run(server, tmp_path).continued == ()
    require_whole(server, tmp_path)


def test_another_server_s_bytes_are_not_continued(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[400] + [0] * 3)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    with serving() as other:
        other.files = {"cat": Served(drawings(1000, seed=2))}
        assert run(other, tmp_path).received_bytes == 1000
        require_whole(other, tmp_path)


def test_a_part_that_is_all_there_only_gets_its_name(server: Server, tmp_path: Path) -> None:
    """As after a kill between the last byte and the rename."""
    server.files = {"cat": Served(drawings(1000), cuts=[999] + [0] * 3)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    with (tmp_path / ".cat.ndjson.part").open("ab") as file:
        file.write(b"\n")
    server.requests.clear()
    assert run(server, tmp_path).continued == ("cat",)
    require_whole(server, tmp_path)
    assert not server.of("cat")


def test_a_part_that_is_too_long_is_dropped(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000), cuts=[999] + [0] * 3)}
    with pytest.raises(InputError):
        run(server, tmp_path)
    with (tmp_path / ".cat.ndjson.part").open("ab") as file:
        file.write(b"\n\n")
    server.requests.clear()
    run(server, tmp_path)
    require_whole(server, tmp_path)
    assert "Range" not in server.of("cat")[0].headers


def test_a_part_beside_the_finished_file_is_removed(server: Server, tmp_path: Path) -> None:
    server.files = {"cat": Served(drawings(1000))}
    (tmp_path / "cat.ndjson").write_bytes(drawings(1000))
    (tmp_path / ".cat.ndjson.part").write_bytes(b"?")
    (tmp_path / ".cat.ndjson.part.json").write_text("{}")
    assert run(server, tmp_path).present == ("cat",)
    require_whole(server, tmp_path)


@pytest.mark.parametrize("etag", ['W/"1"', None])
def test_without_a_strong_mark_nothing_is_continued(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.files = {"cat": Served(drawings(1000), etag=etag, cuts=[400, 700])}
    assert run(server, tmp_path).received_bytes == 400 + 700 + 1000
    require_whole(server, tmp_path)
