"""Ingest by the address of a scheduler, with client and scheduler on one host and the worker on
another: the same bytes as here, with TLS too, and when the cable is pulled for a while.
"""

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import command, environment_of
from dask_cluster import dask_on, worker_on
from file_tree import tree
from hosts import Host, Hosts, two_hosts
from processes import INGEST
from sweeps import TINY, table_file

from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest, prepare
from quickdraw_core.stage import Opened
from quickdraw_core.store.store import Store

WORDS = [f"w{number:02d}" for number in range(24)]
ROWS = 20_000
PORT, TLS_PORT, NO_PORT = 8786, 8796, 8797  # 8787 is the dashboard's


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes of short drawings, some rows of them bad."""
    folder = tmp_path_factory.mktemp("hosts") / "csv"
    folder.mkdir()
    for number, word in enumerate(WORDS):
        lines = ["countrycode,drawing,key_id,recognized,timestamp,word"]
        for row in range(ROWS):
            x, y = row % 251, (row * 7 + number) % 256
            end = "]]]" if row % 1000 != 999 else "]]"
            key_id = ((number << 20) + row + 1) << 21
            drawing = f'"[[[{x}, {y}], [{y}, 7{end}"'
            lines.append(f"US,{drawing},{key_id},True,2017-03-01 00:00:00.5,{word}")
        (folder / f"{word}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an ingest of this process writes: path → SHA-256."""
    store = tmp_path_factory.mktemp("local") / "store"
    ingest(IngestConfig.parse({"source": source, "store": store, "workers": 2}))
    return tree(store)


@contextmanager
def cluster_on(hosts: Hosts, folder: Path, *tls: str, nanny: bool = False) -> Iterator[str]:
    """A scheduler on the first host and a worker on the second: the scheduler's address."""
    scheme, file = "tls" if tls else "tcp", folder / "scheduler.json"
    port = str(TLS_PORT if tls else PORT)
    address = f"{scheme}://{hosts.first.address}:{port}"
    listening = ("--host", f"{scheme}://{hosts.first.address}", "--port", port)
    scheduler = (*listening, "--no-dashboard", "--scheduler-file", str(file), *tls)
    with (
        dask_on(hosts.first, "scheduler", *scheduler),
        worker_on(
            hosts.second, address, folder / "worker", "--nanny" if nanny else "--no-nanny", *tls
        ),
    ):
        deadline = time.monotonic() + 300
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield address


def ingesting(
    host: Host, *configs: dict[str, object], **environment: str
) -> "subprocess.Popen[str]":
    """A process on a host that ingests by one configuration after the other."""
    texts = [json.dumps(config, default=str) for config in configs]
    return subprocess.Popen(
        host.command(sys.executable, "-c", INGEST, *texts),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def said(process: "subprocess.Popen[str]", seconds: float = 200) -> list[str]:
    """The lines that an ingesting process prints."""
    try:
        out, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return out.splitlines()


def receipts(store: Path) -> int:
    return len(list(store.glob("receipts/*/*.json")))


@pytest.mark.parametrize(
    ("seconds", "nanny"),
    [(5, False), pytest.param(50, True, marks=pytest.mark.soak)],
    ids=["for a moment", "for longer than connections live"],
)
def test_a_cut_between_client_and_worker_costs_time_alone(
    hosts: Hosts,
    source: Path,
    local: dict[str, str],
    tmp_path: Path,
    seconds: float,
    nanny: bool,
) -> None:
    store = tmp_path / "store"
    with cluster_on(hosts, tmp_path, nanny=nanny) as address:
        config = {"source": [source], "store": store, "dask": address}
        working = ingesting(hosts.first, config)
        deadline = time.monotonic() + 300
        while receipts(store) < 2:
            assert time.monotonic() < deadline
            assert working.poll() is None
            time.sleep(0.001)
        hosts.cut()
        try:
            time.sleep(1)  # what was under way is done now
            done = receipts(store)
            time.sleep(seconds - 1)
            assert receipts(store) == done < len(WORDS)
        finally:
            hosts.mend()
        (last,) = said(working)
        if last.startswith("ClusterError"):
            assert "what is finished is kept" in last
            # The worker has given up, too; where something watches it, another is started.
            with worker_on(hosts.second, address, tmp_path / "again"):
                (last,) = said(ingesting(hosts.first, config))
            assert int(last) >= done
        else:
            assert last == "0"
    assert tree(store) == local


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, `ours` and `other`, each with a certificate that it signed."""
    folder = tmp_path_factory.mktemp("certificates")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for name in ("ours", "other"):
        for words in (
            f"req -x509 {curve} -days 2 -subj /CN={name} -keyout {name}-ca.key -out {name}-ca.pem",
            f"req {curve} -subj /CN=dask -keyout {name}.key -out {name}.csr",
            f"x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial "
            f"-days 2 -out {name}.pem",
        ):
            subprocess.run(
                ["openssl", *words.split()], cwd=folder, check=True, capture_output=True
            )
    return folder


def tls_of(folder: Path, authority: str, own: str) -> dict[str, object]:
    return {
        "ca_file": folder / f"{authority}-ca.pem",
        "certificate": folder / f"{own}.pem",
        "key": folder / f"{own}.key",
    }


@pytest.fixture(scope="module")
def tls_address(
    hosts: Hosts, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Of a cluster that lets in who has a certificate of the authority `ours`."""
    options = ("--tls-ca-file", "--tls-cert", "--tls-key")
    files = map(str, tls_of(certificates, "ours", "ours").values())
    words = [word for pair in zip(options, files, strict=True) for word in pair]
    with cluster_on(hosts, tmp_path_factory.mktemp("tls"), *words) as address:
        yield address


def test_a_cluster_with_tls_lets_in_who_has_a_certificate_of_its_authority(
    hosts: Hosts,
    source: Path,
    local: dict[str, str],
    certificates: Path,
    tls_address: str,
    tmp_path: Path,
) -> None:
    address, ours = tls_address, tls_of(certificates, "ours", "ours")
    environment = {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(ours["ca_file"]),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": str(ours["certificate"]),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": str(ours["key"]),
    }
    config = {"source": [source], "store": tmp_path / "store", "dask": address}
    elsewhere = config | {"store": tmp_path / "elsewhere"}
    strangers = ingesting(
        hosts.first,
        elsewhere,
        elsewhere | {"tls": tls_of(certificates, "other", "other")},
        elsewhere | {"tls": tls_of(certificates, "ours", "other")},
        elsewhere | {"dask": address.replace("tls:", "tcp:")},
        elsewhere | {"dask": address.replace(str(TLS_PORT), str(NO_PORT)), "tls": ours},
    )
    assert said(ingesting(hosts.first, config | {"tls": ours})) == ["0"]
    assert tree(tmp_path / "store") == local
    without, other_authority, other_own, no_tls, nobody = said(strangers)
    assert without.startswith("ConfigError")
    assert "needs certificates, and none are given" in without
    assert "do not trust each other ([SSL: CERTIFICATE_VERIFY_FAILED]" in other_authority
    assert "do not trust each other" in other_own
    assert "no Dask scheduler answers at tcp://" in no_tls
    assert f"no Dask scheduler answers at tls://10.77.0.1:{NO_PORT}" in nobody
    assert not (tmp_path / "elsewhere").exists()
    by_environment = ingesting(hosts.first, config, elsewhere, **environment)
    assert said(by_environment) == ["24", "0"]  # windows that were there already
    assert tree(tmp_path / "elsewhere") == local


def test_models_are_judged_and_swept_over_tls_and_strangers_are_told_why_not(
    hosts: Hosts,
    store: Store,
    trained: Path,
    csv_folder: Path,
    certificates: Path,
    tls_address: str,
    tmp_path: Path,
) -> None:
    """On one worker: an evaluation, a prediction, two rows."""
    ours, others = (
        [f"--set=tls.{key}={path}" for key, path in tls_of(certificates, name, name).items()]
        for name in ("ours", "other")
    )
    untracked = ("--per-class", 20, "--tracking-uri", "none", "--store", store.path)
    evaluate = ("evaluate", trained, *untracked, "--report-dir", "report")
    sweep = ("sweep", table_file(tmp_path, TINY), *untracked, "--rows", "Right,Reciprocal")

    def begun(*words: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            hosts.first.command(*command(), *map(str, words), "--dask", tls_address),
            cwd=tmp_path,
            env=environment_of(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
        try:
            out, words = process.communicate(timeout=200)
        finally:
            process.kill()
        return process.returncode, out, words

    test_csv, predictions = csv_folder / "sun.csv", tmp_path / "predictions.csv"
    predict = ("predict", trained, test_csv, "--out", predictions)
    stranger = begun(*sweep, *others, "--run-dir", "strange")
    assert ended(begun(*evaluate, *ours))[0] == 0
    code, out, words = ended(stranger)
    assert (code, out, words.count("\n")) == (2, "", 1), words
    assert "do not trust each other" in words
    stranger = begun(*evaluate, "--report-dir", "strange")
    code, _, words = ended(begun(*predict, *ours))
    assert code == 0, words
    code, out, words = ended(stranger)
    assert (code, out, words.count("\n")) == (2, "", 1), words
    assert "needs certificates, and none are given" in words
    assert not (tmp_path / "strange").exists()
    assert ended(begun(*sweep, *ours, "--run-dir", "swept"))[0] == 0
    assert (tmp_path / "report" / "evaluation.json").exists()
    assert len(predictions.read_text().splitlines()) == len(test_csv.read_text().splitlines())
    rows = json.loads((tmp_path / "swept" / "sweep.json").read_text())["rows"]
    assert [bool(row["scores"]) for row in rows] == [True, True, False]


def test_a_scheduler_that_hangs_up_without_a_reason_is_not_said_to_be_absent(
    source: Path, certificates: Path, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "ours.pem", certificates / "ours.key")

    def hang_up(listening: socket.socket) -> None:
        with listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as met:
            met.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=hang_up, args=(listening,))
        thread.start()
        values = {
            **{"source": source, "store": tmp_path / "store"},
            **{"tls": tls_of(certificates, "ours", "ours")},
            "dask": f"tls://127.0.0.1:{listening.getsockname()[1]}",
        }
        with pytest.raises(ConfigError, match="do not trust each other"):
            ingest(IngestConfig.parse(values))
        thread.join(10)
    assert not (tmp_path / "store").exists()


def test_certificates_that_cannot_serve_are_refused_before_work(
    source: Path, certificates: Path, tmp_path: Path
) -> None:
    def refused(dask: str = "tls://10.77.0.1:8786", **changes: object) -> str:
        tls = tls_of(certificates, "ours", "ours") | changes
        values = {"source": source, "store": tmp_path / "store", "dask": dask, "tls": tls}
        with pytest.raises(ConfigError) as found:
            prepare(IngestConfig.parse(values), Opened())
        return str(found.value)

    assert "option 'tls': certificates are for a tls:// scheduler, and dask is tcp://" in refused(
        "tcp://10.77.0.1:8786"
    )
    assert "and dask is local" in refused("local")
    absent = tmp_path / "absent.pem"
    for name in ("ca_file", "certificate", "key"):
        assert f"tls.{name}: there is no file {absent}" in refused(**{name: absent})
    (tmp_path / "text.pem").write_text("no certificate\n")
    assert "text.pem cannot be used" in refused(ca_file=tmp_path / "text.pem")
    assert "belong together" in refused(key=certificates / "other.key")
    encrypted = tmp_path / "encrypted.key"
    key = ["-in", str(certificates / "ours.key"), "-out", str(encrypted)]
    subprocess.run(
        ["openssl", "ec", *key, "-aes256", "-passout", "pass:secret"],
        check=True,
        capture_output=True,
    )
    assert "is encrypted" in refused(key=encrypted)
    assert "unknown option 'tls.keys'" in refused(keys="x")
