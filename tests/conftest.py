"""What the tests share: a small store of generated doodles, and real drawings where they are."""

import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import surroundings
from hypothesis import settings

surroundings.settle()  # before torch is imported

import session
from budget import Budget
from download_server import Server, serving
from forkserver import real_python
from trainings import train_config

from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.pack import Pack, open_pack
from quickdraw_core.store.store import Store

# A machine that is shared is slow at any moment: how long an example takes says nothing.
settings.register_profile("quickdraw", deadline=None)
if not os.access(Path(__file__).parents[1], os.W_OK):  # where it keeps the examples that failed
    settings.register_profile("quickdraw", deadline=None, database=None)
settings.load_profile("quickdraw")

SERVICES = {"running", "hosts", "chromium"}
"""Fixtures: a Prefect server with a worker, two hosts, a browser."""
WORDS = ("star", "ice cream", "sun", "envelope")
ROWS = 150


def pytest_configure(config: pytest.Config) -> None:
    """Makes what all tests of the run share."""
    session.begin(config)
    is_worker = hasattr(config, "workerinput")
    is_covered = any(name.startswith("COVERAGE_PROCESS") for name in os.environ)  # it is slower
    config.pluginmanager.register(Budget(limits=is_worker and not is_covered))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """`sys.executable` is a real interpreter in the services' and long tests, but for those that
    are marked as forked, and the program that forks in all others.
    """
    marks = {mark.name for mark in item.iter_markers()}
    real = marks & {"soak", "stack"} or ("services" in marks and "forked" not in marks)
    sys.executable = real_python() if real else session.python()
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what asks for a service, so that it runs in `make test-services`."""
    for item in items:
        if SERVICES & {*getattr(item, "fixturenames", ())}:
            item.add_marker("services")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real drawings, which lie beside a checkout in CI and in no clone of a user's."""
    root = os.environ.get("QUICKDRAW_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    data = Path(root) / "data"
    if not (data / "train_simplified").is_dir():
        pytest.skip("the real drawings are not here")
    return data


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Fails a test that leaves other settings behind, which the tests after it would follow."""
    before = surroundings.settings()
    yield
    assert surroundings.settings() == before


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the tests' row indices out of the user's cache folder."""
    os.environ["QUICKDRAW_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def csv_folder() -> Path:
    """Generated CSVs of four words, 150 rows each. Not to be changed."""

    def make(folder: Path) -> str:
        generate_csvs(folder, WORDS, ROWS, seed=1)
        return str(folder)

    return Path(session.once("csv", make))


@pytest.fixture(scope="session")
def store(csv_folder: Path) -> Store:
    """The store of `csv_folder`, packed, 20 test drawings a class. Not to be changed."""

    def make(folder: Path) -> str:
        config = {"source": csv_folder, "store": folder / "store", "test_per_class": 20}
        ingest(IngestConfig.parse(config | {"workers": 2}))
        open_pack(Store.open(folder / "store"))
        return str(folder / "store")

    return Store.open(Path(session.once("store", make)))


@pytest.fixture(scope="session")
def pack(store: Store) -> Pack:
    """The pack of `store`."""
    return open_pack(store)


@pytest.fixture(scope="session")
def empty_database() -> Path:
    """An MLflow database without a run, to be copied: setting one up takes seconds."""

    def make(folder: Path) -> str:
        from quickdraw_core.tracking.runs import client

        client(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return str(folder / "mlflow.db")

    return Path(session.once("mlflow", make))


@pytest.fixture(scope="session")
def trained(store: Store, empty_database: Path) -> Path:
    """The run folder of a model trained on `store`, above chance and not perfect, with three
    checkpoints, tracked in `mlflow.db` beside it. Not to be changed, but for the evaluations that
    other tests tell MLflow of, meanwhile too; `untouched` beside it is a copy of all that from
    before any of them.
    """

    def make(folder: Path) -> str:
        # Here, so that the process that only starts the workers does not load torch.
        from quickdraw_core.launching.train import train

        shutil.copy(empty_database, folder / "mlflow.db")
        values = {"store": store.path, "run_dir": folder / "run", "hardware.ranks": 1, "epochs": 2}
        values |= {"global_batch_size": 64, "micro_batch_size": 64, "checkpoints.keep": 3}
        values |= {"validation.every_steps": 3}
        values |= {"tracking.uri": f"sqlite:///{folder}/mlflow.db", "augment": None}
        result = train(train_config(values | {"model": "net", "image.side_px": 24}))
        assert result.tracking_problem is None
        whole = list(folder.iterdir())
        (folder / "untouched").mkdir()
        for path in whole:
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, folder / "untouched" / path.name)
        return str(result.run_dir)

    return Path(session.once("trained", make))


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of drawings, for the tests of the download."""
    with serving() as server:
        yield server
