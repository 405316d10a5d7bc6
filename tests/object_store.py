"""An S3 server for tests, behind a line that can be cut: moto's, on real sockets of 127.0.0.1."""

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from quickdraw_core.storage.location import location_of
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Line:
    """A relay before a server: counts what passes, and can be cut and mended."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.asked = b""
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Listens, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def cut(self) -> None:
        """Ends all connections and takes no more."""
        listener, self._listener = self._listener, None
        for connection in (listener, *tuple(self._open)):
            if connection is not None:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
        for thread in self._threads:
            thread.join(10)
        self._threads.clear()

    def requests(self, method: str, part: str) -> int:
        """How many requests there were of a method whose address holds a text."""
        lines = self.asked.split(b"\r\n")
        begin = f"{method} /".encode()
        return sum(line.startswith(begin) and part.encode() in line for line in lines)

    def _start(self, function: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._open |= {near, far}
                self._start(self._pass, near, far, True)
                self._start(self._pass, far, near, False)

    def _pass(self, source: socket.socket, target: socket.socket, asking: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if asking:
                    self.asked += b"\r\n" + data[: 1 << 10]
                target.sendall(data)
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            self._open.discard(connection)


@dataclass(frozen=True)
class Bucket:
    """A bucket, and what the tests ask the server for behind the product's back."""

    name: str
    client: Any
    line: Line

    @property
    def query(self) -> str:
        """What an address needs to reach the server."""
        return f"?endpoint_override=127.0.0.1:{self.line.port}&scheme=http"

    def address(self, folder: str) -> str:
        """The address of a folder."""
        return f"s3://{self.name}/{folder}{self.query}"

    def objects(self, folder: str) -> dict[str, str]:
        """Names below a folder → SHA-256."""
        return {
            key.removeprefix(f"{folder}/"): hashlib.sha256(self.get(key)).hexdigest()
            for key in self.keys(f"{folder}/")
        }

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with a text; without those that stand for folders."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return sorted(key for key in keys if not key.endswith("/"))

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def put(self, key: str, data: bytes) -> None:
        """Puts an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, *keys: str) -> None:
        """Deletes objects."""
        for key in keys:
            self.client.delete_object(Bucket=self.name, Key=key)


@contextmanager
def s3_bucket(name: str) -> Iterator[Bucket]:
    """A bucket of a server of its own."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=name)
        line = Line((host, port))
        try:
            yield Bucket(name, client, line)
        finally:
            line.cut()
            client.close()
    finally:
        server.stop()


def take_environment(variables: dict[str, str]) -> None:
    """Gives a process the variables of the one that started it."""
    os.environ.update(variables)


def pack_digest(store: str) -> str:
    """Opens the pack of a store; the SHA-256 of some of it. Here, where a process that tests
    start finds it without importing torch.
    """
    pack = open_pack(Store.open(location_of(store)))
    return hashlib.sha256(pack.drawings.x.tobytes() + pack.key_ids.tobytes()).hexdigest()
