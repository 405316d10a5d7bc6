"""A store in an object store keeps every promise of a store in a folder, byte for byte.

The server is moto's, behind a line that the tests count on and cut.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from dask_cluster import dask_cluster
from file_tree import sha256_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow_server import MlflowServer
from object_store import ENVIRONMENT, Bucket, pack_digest, s3_bucket, take_environment
from pydantic import TypeAdapter
from trainings import train_config
from typer.testing import CliRunner
from web_server import RefusingHandler, serving
from writers import csv_line, random_rows

from quickdraw_core.cli import app
from quickdraw_core.errors import ConfigError, StoreError, StoreUnreachableError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.evaluation.evaluate import evaluate
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest, prepare
from quickdraw_core.ingest.result import IngestResult
from quickdraw_core.launching.train import train
from quickdraw_core.stage import Opened
from quickdraw_core.storage import object_client, objects
from quickdraw_core.storage.factory import storage_of
from quickdraw_core.storage.location import Location, location_of
from quickdraw_core.store.describe import describe_store
from quickdraw_core.store.manifest import MANIFEST_NAME
from quickdraw_core.store.pack import open_pack, pack_folder
from quickdraw_core.store.store import Store
from quickdraw_core.store.verify import verify_store
from quickdraw_core.tracking.runs import client
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

HEADER = (",".join(TRAIN_COLUMNS) + "\n").encode()
BAD = b"nonsense\n"


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the tests, and nothing of the developer's own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    object_client._s3.cache_clear()
    objects._ANSWERED.clear()


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_bucket("drawings") as opened:
        yield opened


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    """A name in the bucket for this test alone; with what has to be encoded in an address."""
    return f"of the team/{hashlib.sha256(request.node.name.encode()).hexdigest()[:8]}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of 240 drawings, some lines of them bad. Not to be changed."""
    words = ("cat", "hot dog", "ice cream", "star", "sun", "The Eiffel Tower")
    return write_source(tmp_path_factory.mktemp("objects") / "csv", dict.fromkeys(words, 240), 1)


def write_source(path: Path, rows: dict[str, int], bad: int) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number, (word, count) in enumerate(rows.items()):
        lines = list(map(csv_line, random_rows(np.random.default_rng(number), count, word)))
        lines[1:1] = [BAD] * bad
        (path / f"{word}.csv").write_bytes(HEADER + b"".join(lines))
    return path


def run(source: Path, store: Path | str, **options: object) -> IngestResult:
    values = {"source": source, "store": store, "workers": 2, "test_per_class": 20}
    return ingest(IngestConfig.parse(values | {"max_rejected": 0.9} | options))


def tree(store: Path) -> dict[str, str]:
    """Everything of a local store but its pack: name → SHA-256."""
    paths = [path for path in sorted(store.rglob("*")) if path.is_file()]
    names = {path.relative_to(store).as_posix(): path for path in paths}
    return {name: sha256_of(path) for name, path in names.items() if name[:5] != "pack/"}


def open_at(address: str) -> Store:
    return Store.open(location_of(address))


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local store of `source`. Not to be changed."""
    store = tmp_path_factory.mktemp("local") / "store"
    run(source, store)
    return store


# --- the same bytes ----------------------------------------------------------------------------


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["cat", "hot dog", "ice cream"]), st.integers(1, 90), min_size=1
    ),
    st.integers(0, 2),
    st.sampled_from(["all", "head:20", "spread:3x7"]),
)
def test_any_source_makes_the_bytes_of_a_local_store(
    bucket: Bucket,
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[str, int],
    bad: int,
    wanted: str,
) -> None:
    work = tmp_path_factory.mktemp("same")
    source = write_source(work / "csv", rows, bad)
    here = run(source, work / "store", rows=wanted, workers=1)
    there = run(source, bucket.address(work.name), rows=wanted, workers=1)
    assert there.fingerprint == here.fingerprint
    assert bucket.objects(work.name) == tree(work / "store")


def test_the_same_again_does_nothing_and_growing_reads_what_is_new(
    bucket: Bucket, folder: str, source: Path, tmp_path: Path
) -> None:
    address, here = bucket.address(folder), tmp_path / "store"
    for options, reused in (
        ({"rows": "head:60", "classes": ("cat", "sun")}, 0),
        ({"rows": "head:60"}, 2),  # grows
        ({"rows": "head:60", "classes": ("cat", "star")}, 2),  # shrinks
        ({"rows": "all"}, 0),
    ):
        run(source, here, **options)
        assert run(source, address, **options).windows_reused == reused
        assert bucket.objects(folder) == tree(here)
    puts = bucket.line.requests("PUT", "")
    again = run(source, address)
    assert again.skipped
    assert bucket.line.requests("PUT", "") == puts
    with pytest.raises(ConfigError, match="drawings would change sides"):
        run(source, address, validation_share=0.1)
    run(source, here, validation_share=0.1, fresh=True)
    assert run(source, address, validation_share=0.1, fresh=True).windows_reused == 0
    assert bucket.objects(folder) == tree(here)


def test_workers_elsewhere_write_to_the_bucket_themselves(
    bucket: Bucket,
    folder: str,
    source: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket.line.port}")
    (tmp_path / "cluster").mkdir()
    monkeypatch.chdir(tmp_path)
    with dask_cluster(tmp_path / "cluster", workers=1) as (scheduler, _):
        run(source, f"s3://{bucket.name}/{folder}", dask=scheduler)
    assert bucket.objects(folder) == tree(local)
    assert [path.name for path in tmp_path.iterdir()] == ["cluster"]


def test_google_s_store_takes_the_same_bytes(source: Path, local: Path, tmp_path: Path) -> None:
    root = tmp_path / "gcs"
    (root / "drawings").mkdir(parents=True)
    command = [sys.executable, str(Path(__file__).with_name("fake_gcs.py")), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            query = f"?endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=2"
            address = f"gs://anonymous@drawings/team/store{query}"
            run(source, address)
            assert tree(root / "drawings" / "team" / "store") == tree(local)
            run(source, address, classes=("cat", "sun"))
            run(source, address)
            assert tree(root / "drawings" / "team" / "store") == tree(local)
            assert run(source, address).skipped
            assert verify_store(location_of(address)).problems == ()
            with pytest.raises(StoreError, match="no such bucket"):
                run(source, f"gs://anonymous@nothing/store{query}")
            with pytest.raises(StoreError, match="access is refused; let GOOGLE_APPLICATION"):
                run(source, f"gs://anonymous@private/store{query}")
        finally:
            server.kill()


# --- kills and cuts ----------------------------------------------------------------------------


def test_a_killed_ingest_is_continued_and_keeps_its_holdout_rule(
    bucket: Bucket, folder: str, source: Path, tmp_path: Path
) -> None:
    address, here = bucket.address(folder), tmp_path / "store"
    for store in (here, address):
        run(source, store, rows="head:60", classes=("cat", "sun"))
    code = (
        "import sys; from quickdraw_core.ingest.ingest import ingest; import time;"
        "from quickdraw_core.ingest.config import IngestConfig;"
        "from quickdraw_core.storage.objects import ObjectStorage; write = ObjectStorage.write;"
        "ObjectStorage.write = lambda *a, **k: (time.sleep(.2), write(*a, **k));"
        "ingest(IngestConfig.model_validate_json(sys.argv[1]))"
    )
    config = IngestConfig.parse(
        {"source": source, "store": address, "workers": 1, "test_per_class": 20}
        | {"max_rejected": 0.9}
    )
    process = subprocess.Popen([sys.executable, "-c", code, config.model_dump_json()])
    deadline = time.monotonic() + 300
    while len(bucket.keys(f"{folder}/unfinished/receipts/")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(300) == -signal.SIGKILL
    found = set(bucket.objects(folder))
    assert MANIFEST_NAME in found
    assert open_at(address).label_map.words == ("cat", "sun")
    done = run(source, address)
    assert 1 <= done.windows_reused < done.windows
    run(source, here)
    assert bucket.objects(folder) == tree(here)


def test_a_line_that_is_cut_for_a_while_costs_nothing(
    bucket: Bucket, folder: str, source: Path, local: Path
) -> None:
    def cut() -> None:
        while not bucket.keys(f"{folder}/receipts/"):
            time.sleep(0.002)
        bucket.line.cut()
        time.sleep(2)
        bucket.line.mend()

    cutter = threading.Thread(target=cut)
    cutter.start()
    run(source, bucket.address(folder), workers=1)
    cutter.join()
    assert bucket.objects(folder) == tree(local)


def test_a_line_that_stays_cut_ends_the_run_and_the_next_one_goes_on(
    bucket: Bucket, folder: str, source: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_RETRIES", 1)

    def cut() -> None:
        while not bucket.keys(f"{folder}/receipts/"):
            time.sleep(0.002)
        bucket.line.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        with pytest.raises(StoreUnreachableError, match="the store does not answer") as caught:
            run(source, bucket.address(folder), workers=1)
    finally:
        cutter.join()
        bucket.line.mend()
    assert caught.value.exit_code == 1
    assert MANIFEST_NAME not in bucket.objects(folder)
    assert run(source, bucket.address(folder)).windows_reused >= 1
    assert bucket.objects(folder) == tree(local)


def test_a_store_that_cannot_be_reached_is_neither_damaged_nor_made_anew(
    bucket: Bucket, folder: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_RETRIES", 1)
    address = bucket.address(folder)
    run(source, address)
    whole = bucket.objects(folder)
    reads = objects.ObjectStorage.read

    def read_then_cut(self: objects.ObjectStorage, name: str) -> bytes:
        data = reads(self, name)
        if name.startswith("drawings/"):
            bucket.line.cut()
        return data

    monkeypatch.setattr(objects.ObjectStorage, "read", read_then_cut)
    for work in (lambda: run(source, address), lambda: verify_store(location_of(address))):
        with pytest.raises(StoreUnreachableError):
            work()
        bucket.line.mend()
    assert bucket.objects(folder) == whole


# --- what is wrong is said before work ---------------------------------------------------------


class RefusingAll(RefusingHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_what_cannot_be_is_said_before_any_work(bucket: Bucket, source: Path) -> None:
    bucket.put("other/notes.txt", b"notes")
    with serving(RefusingAll) as port:
        refusing = f"?endpoint_override=127.0.0.1:{port}&scheme=http"
        for address, message in (
            (f"s3://nothing/store{bucket.query}", "s3://nothing/store: there is no such bucket"),
            (f"s3://drawings/store{refusing}", "access is refused; set AWS_ACCESS_KEY_ID"),
            (
                "s3://drawings/store?endpoint_override=127.0.0.1:9&scheme=http",
                "s3://drawings/store: the store does not answer; check its address",
            ),
            (bucket.address("other"), "is not a store: it holds notes.txt; give a new or empty"),
        ):
            with pytest.raises(StoreError, match=message) as caught:
                prepare(IngestConfig.parse({"source": source, "store": address}), Opened())
            assert "\n" not in str(caught.value)
            with pytest.raises(StoreError):
                open_at(address)
    with pytest.raises(StoreError, match=r"no store there: s3://\S*nothing\S* holds nothing"):
        open_at(bucket.address("nothing"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("https://host/store", "a store cannot be at https://"),
        (Path("s3://bucket/store"), "of which a path was made; give it as text"),
        ("s3://bucket/store?enpoint_override=x", "did you mean 'endpoint_override'"),
        ("s3:///store", "names no bucket"),
    ],
)
def test_what_is_no_address_of_a_store_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IngestConfig.parse({"source": "csv", "store": value})


def test_a_key_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="holds a key in the address") as caught:
        TrainConfig.parse({"store": "s3://AKIAKEY:s3cret@bucket/store"})
    assert "s3cret" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


@given(st.text("abc ü%&+=.-/", min_size=1), st.sampled_from(["", "?scheme=http&region=eu"]))
def test_an_address_comes_through_json_as_it_was(folder: str, query: str) -> None:
    address = location_of(f"s3://bucket/{folder}{query}")
    adapter: TypeAdapter[Any] = TypeAdapter(Location)
    assert location_of(str(address)) == address
    assert adapter.validate_json(adapter.dump_json(address)) == address
    for model in (IngestConfig(source=("csv",), store=address), TrainConfig(store=address)):
        assert model.store == address
        assert type(model).parse(json.loads(model.model_dump_json())) == model
        assert model.updated({"seed": 7}).store == address


def test_a_local_store_stays_a_path() -> None:
    assert TrainConfig().store == Path("store")
    assert TrainConfig.parse({"store": "some/store"}).store == Path("some/store")
    assert TrainConfig.model_json_schema()["properties"]["store"]["type"] == "string"


# --- verify, describe, pack --------------------------------------------------------------------


def test_damage_is_found_and_mended_by_ingesting_again(
    bucket: Bucket, folder: str, source: Path, local: Path
) -> None:
    address, opened = bucket.address(folder), location_of(bucket.address(folder))
    run(source, address)
    sound = verify_store(opened)
    assert (sound.problems, sound.notes) == ((), ())
    drawings, quarantine = (
        next(key for key in bucket.keys(f"{folder}/{top}/") if "sun" in key)
        for top in ("drawings", "quarantine")
    )
    whole = bucket.get(drawings)
    bucket.put(drawings, whole[:99] + b"?" + whole[100:])
    bucket.delete(quarantine)
    bucket.put(f"{folder}/drawings/word=cat/more.parquet", b"?")
    problems = verify_store(opened).problems
    assert len(problems) == 3
    for part in ("sun/part-000000000.parquet is damaged", "jsonl is missing", "more.parquet is"):
        assert any(part in problem for problem in problems), problems
    assert "endpoint_override" not in " ".join(problems)
    assert run(source, address).windows_reused == 5
    assert bucket.objects(folder) == tree(local)
    bucket.delete(drawings)
    with pytest.raises(StoreError, match=r"lacks s3://drawings/of%20the%20team/\S*sun"):
        open_at(address)


def test_a_description_is_that_of_the_local_store(
    bucket: Bucket, folder: str, source: Path, local: Path
) -> None:
    run(source, bucket.address(folder))
    there = describe_store(location_of(bucket.address(folder))).to_json()
    assert there | {"store": ""} == describe_store(local).to_json() | {"store": ""}
    assert there["store"] == str(location_of(bucket.address(folder)))


def test_flows_learn_when_a_manifest_was_written(
    bucket: Bucket, folder: str, source: Path
) -> None:
    store = location_of(bucket.address(folder))
    assert storage_of(store).modified(MANIFEST_NAME) is None
    run(source, bucket.address(folder))
    written = storage_of(store).modified(MANIFEST_NAME)
    assert written is not None
    assert abs(written - time.time()) < 60


def test_the_pack_is_built_once_on_each_machine(
    bucket: Bucket,
    folder: str,
    source: Path,
    local: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUICKDRAW_CACHE", str(tmp_path))
    address = bucket.address(folder)
    run(source, address)
    (tmp_path / "packs" / ".0123.45.tmp").mkdir(parents=True)  # of one that was killed
    before = bucket.line.requests("GET", "/drawings/word")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["object_store"])
    # The server of the forks may be there already, with the environment of an earlier test.
    with context.Pool(2, take_environment, (dict(os.environ),)) as processes:
        found = processes.map(pack_digest, [address] * 2, chunksize=1)
    assert set(found) == {pack_digest(str(local))}
    assert bucket.line.requests("GET", "/drawings/word") - before == 6  # each file once
    folders = pack_folder(open_at(address))
    assert folders.parent == tmp_path / "packs"
    assert {p.name for p in folders.parent.iterdir()} == {folders.name}
    assert not any("pack" in key.split("/")[2] for key in bucket.keys(f"{folder}/"))

    run(source, address, rows="head:60")  # another store at the same address
    other = open_at(address)
    open_pack(other)
    assert {p.name for p in folders.parent.iterdir()} == {pack_folder(other).name}


# --- training and judging ----------------------------------------------------------------------


@pytest.fixture
def mlflow_uri(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real MLflow server that keeps its artifacts in the bucket, which only it knows."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    server = MlflowServer(folder, f"s3://{bucket.name}/artifacts")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{bucket.line.port}")
        server.start()
    yield server.uri
    server.kill()


def test_a_model_is_trained_and_judged_with_everything_in_a_bucket(
    bucket: Bucket,
    folder: str,
    source: Path,
    local: Path,
    mlflow_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    address = bucket.address(folder)
    run(source, address)
    values = {"hardware.ranks": 1, "epochs": 1, "global_batch_size": 512, "micro_batch_size": 128}
    values |= {"augment": None, "image.side_px": 24, "model": "net", "store": address}
    values |= {"tracking.uri": mlflow_uri, "run_dir": tmp_path / "run"}
    trained = train(train_config(values))
    assert trained.tracking_problem is None
    run_folder = RunFolder.read(trained.run_dir)
    assert run_folder.config.store == location_of(address)
    # Of the same identity as on a local store of the same sources: where it lies decides nothing.
    same = train_config(values | {"store": local})
    assert run_folder.identity == same.identity(Store.open(local).manifest.fingerprint)
    params = client(mlflow_uri).get_run(trained.mlflow_run_id).data.params
    assert params["store"] == str(location_of(address))

    shutil.move(trained.run_dir, tmp_path / "elsewhere")  # only MLflow has the model now
    asked = {"model": trained.mlflow_run_id, "store": address, "per_class": 20, "ranks": 2}
    asked |= {"allow_short": True, "tracking_uri": mlflow_uri, "batch_size": 32}
    judged = evaluate(EvaluateConfig.parse(asked | {"report_dir": tmp_path / "report"}))
    assert judged.tracking_problem is None
    assert f"s3://{bucket.name}" in judged.report.read_text()
    kept = {key.rsplit("/", 1)[-1] for key in bucket.keys("artifacts/")}
    assert {"MLmodel", "best.pt", "last.pt", "report.html"} <= kept
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["elsewhere", "mlflow", "report"]


def test_the_commands_take_an_address(
    bucket: Bucket, folder: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    address = bucket.address(folder)
    run(source, address)

    def quickdraw(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    for words, said in (
        (("verify", address), "all is right"),
        (("describe", address), "hot dog"),
        (("show", address, "--class", "hot dog"), "hot_dog.png"),
    ):
        done = quickdraw(*words)
        assert done.exit_code == 0, done.output
        assert said in done.output
    nowhere = f"s3://nothing/store{bucket.query}"
    for words in (
        ("ingest", str(source), "--store", nowhere),
        ("pipeline", str(source), "--store", nowhere),
        ("train", "--store", nowhere, "--recipe", "demo", "--set", "seed=7"),
        ("sweep", "report-small", "--store", nowhere),
    ):
        error = quickdraw(*words).exception
        assert isinstance(error, StoreError)
        assert "s3://nothing/store: there is no such bucket" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["hot_dog.png"]
