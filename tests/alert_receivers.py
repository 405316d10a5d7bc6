"""Where alerts are sent to, on 127.0.0.1: a web hook and an SMTP server."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple

from web_server import serving


class Received(NamedTuple):
    """A message. path: of the web hook, or the recipient."""

    path: str
    subject: str
    text: str


@contextmanager
def web_hook() -> Iterator[tuple[int, list[Received]]]:
    """Takes what Apprise posts as JSON. Yields the port, and what came so far."""
    received: list[Received] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append(Received(self.path, sent["title"], sent["message"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with serving(Hook) as port:
        yield port, received


@contextmanager
def mail_server() -> Iterator[tuple[int, list[Received]]]:
    """Takes mail as an SMTP server without a login does. Yields the port, and what came so far."""
    received: list[Received] = []

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipient = ""
            self._say("220 127.0.0.1 ready")
            while line := self.rfile.readline():
                word = line[:4].upper().strip()
                if word == b"RCPT":
                    recipient = line.decode().partition("<")[2].partition(">")[0]
                if word == b"DATA":
                    self._say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    # A line that begins with a dot was sent with one more (RFC 5321, 4.5.2).
                    data = b"".join(line[line.startswith(b".") :] for line in lines)
                    received.append(_mail(recipient, data))
                self._say("221 bye" if word == b"QUIT" else "250 ok")
                if word == b"QUIT":
                    return

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1], received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _mail(recipient: str, data: bytes) -> Received:
    mail = message_from_bytes(data, policy=policy.default)
    body = mail.get_body(("plain",))
    return Received(recipient, str(mail["Subject"]), "" if body is None else body.get_content())
