"""Folders of every name: data, store, output, and the one that a command works in."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from quickdraw_core.cli import app
from quickdraw_core.errors import TrackingError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.address import check_address, resolve_tracking_uri

NAMES = (
    *("a b", "50%", "a%20b", "what?", "a#b", "word=cat", "it's", 'a"b', "[a]*"),
    *("Äpfel", "🐱", ".hidden", "-dash", "a…b", "x" * 200),
)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_data_store_and_pictures_may_be_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / name
    home.mkdir()
    monkeypatch.chdir(home)

    def run(*words: str) -> None:
        done = CliRunner().invoke(app, [*words])
        assert done.exception is None, repr(done.exception)

    run("generate", f"./{name}", "--classes", "1", "--rows", "20")
    ingest(IngestConfig.parse({"source": f"./{name}", "store": f"./store {name[:99]}"}))
    store = Store.open(Path(f"store {name[:99]}"))
    assert store.manifest.rows_kept == 20
    run("show", f"./store {name[:99]}", "--class", store.label_map.words[0], "--out", "./p.png")
    made = {path.name for path in home.iterdir()}
    assert made == {name, f"store {name[:99]}", "p.png"}
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_a_database_whose_address_would_name_another_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "what?").mkdir()
    monkeypatch.chdir(tmp_path / "what?")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="cannot hold"):
        check_address(resolve_tracking_uri(None))
