"""What surrounds the program decides no result: encoding, time zone, home folder."""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from requests import Response

import quickdraw_core
from quickdraw_core.errors import ConfigError, InputError
from quickdraw_core.reading.row_index import index_rows
from quickdraw_core.sources.find import find_sources
from quickdraw_core.sources.web_requests import retry_after_seconds
from quickdraw_core.system.files import cache_folder

ROOT = Path(quickdraw_core.__file__).parents[1]
TEXT = {"read_text": 1, "write_text": 2}
"""Methods of paths, and the number of arguments with which the encoding is given in place."""


def calls_without_encoding(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        named = {keyword.arg for keyword in node.keywords}
        needed = TEXT.get(node.func.attr)
        if needed is not None and "encoding" not in named and len(node.args) < needed:
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_text_files_are_utf_8_whatever_the_locale() -> None:
    sources = [
        path for name in ("quickdraw_core", "flows") for path in (ROOT / name).rglob("*.py")
    ]
    assert len(sources) > 100
    assert not [call for path in sources for call in calls_without_encoding(path)]


def test_what_the_locale_cannot_show_does_not_end_a_command(tmp_path: Path) -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    # Such an interpreter finds no editable installation in a folder whose name is not ASCII.
    ascii_alone["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "quickdraw_core.cli", "ingest", "no-such …"],
        cwd=tmp_path,
        env=os.environ | ascii_alone,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: no folder or file ")
    assert b"Traceback" not in done.stderr


def test_a_date_without_a_zone_is_utc() -> None:
    """Of a `Retry-After`, as RFC 5322 has it; the tests run far from UTC."""
    assert time.timezone != 0
    soon = time.strftime("%a, %d %b %Y %H:%M:%S", time.gmtime(time.time() + 3000))
    for zone in ("-0000", "GMT", "+0000"):
        response = Response()
        response.headers["Retry-After"] = f"{soon} {zone}"
        assert 0 < retry_after_seconds(response) <= 3000  # a wrong zone is hours away


def test_a_user_without_a_home_folder_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, csv_folder: Path
) -> None:
    def nowhere(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    source, *_ = find_sources(csv_folder)
    for name in ("QUICKDRAW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", nowhere)
    with pytest.raises(ConfigError, match="set QUICKDRAW_CACHE to a folder"):
        cache_folder("packs")
    with pytest.raises(InputError, match="home folder of no known user"):
        find_sources("~somebody/drawings")
    assert index_rows(source).rows == 150, "without a cache it is scanned each time"
