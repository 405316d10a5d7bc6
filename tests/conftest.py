"""What the tests share: a small store of generated doodles, and real drawings where they are."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.run import ingest
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.threads import set_waiting

set_waiting(os.environ)  # what the tests themselves compute, too; nothing above loads torch

# A machine that is shared is slow at any moment: how long an example takes says nothing.
settings.register_profile("quickdraw", deadline=None)
settings.load_profile("quickdraw")

WORDS = ("star", "ice cream", "sun", "envelope")
ROWS = 150


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the file that takes longest, and mostly waits: others go on beside it."""
    items.sort(key=lambda item: item.path.stem != "test_service")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real drawings, which lie beside a checkout in CI and in no clone of a user's."""
    root = os.environ.get("QUICKDRAW_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    data = Path(root) / "data"
    if not (data / "train_simplified").is_dir():
        pytest.skip("the real drawings are not here")
    return data


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the tests' row indices out of the user's cache folder."""
    os.environ["QUICKDRAW_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def csv_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated CSVs of four words, 150 rows each. Not to be changed."""
    folder = tmp_path_factory.mktemp("csv")
    generate_csvs(folder, WORDS, ROWS, seed=1)
    return folder


@pytest.fixture(scope="session")
def store(csv_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of `csv_folder`, 20 test drawings a class. Not to be changed."""
    path = tmp_path_factory.mktemp("data") / "store"
    ingest(IngestConfig(source=csv_folder, store=path, test_per_class=20, workers=2))
    return Store.open(path)


@pytest.fixture(scope="session")
def pack(store: Store) -> Pack:
    """The pack of `store`."""
    return open_pack(store)


@pytest.fixture(scope="session")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a model trained on `store`, above chance and not perfect, with three
    checkpoints, tracked in `mlflow.db` beside it. Not to be changed.
    """
    from quickdraw_core.training.config import TrainConfig
    from quickdraw_core.training.launch import train

    folder = tmp_path_factory.mktemp("trained")
    values = {"store": store.path, "run_dir": folder / "run", "ranks": 1, "epochs": 2}
    values |= {"global_batch_size": 64, "micro_batch_size": 64, "keep_checkpoints": 3}
    values |= {"validate_every_steps": 3}
    values |= {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "augment": None, "side_px": 24}
    return train(TrainConfig.parse(values | {"model": "net"})).run_dir
