"""Whether a server answers with 200; exit code 0 if so: `python -IS ready.py HOST PORT PATH`.

Sockets alone: every container asks every few seconds, and Python's own HTTP client takes 0.1 s of
processor to load.
"""

import socket
import sys

host, port, path = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=4) as connection:
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n"
    connection.sendall(request.encode())
    status_line = connection.recv(64).partition(b"\r\n")[0]
sys.exit(b" 200" not in status_line)
