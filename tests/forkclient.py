"""Stands for a process that a fork server forked (see `forkserver.py`). Imports nothing that is
not built in: it starts in about ten milliseconds.

python -I -S forkclient.py SOCKET [arguments of an interpreter]
"""

import _signal as signal
import _socket as socket
import marshal
import posix as os
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(address: str, arguments: list[str]) -> None:
    """Asks for a process, and ends as it ends. Returns where the server does not fork that one."""
    environment = {text(name): text(value) for name, value in os.environ.items()}
    umask = os.umask(0o77)
    os.umask(umask)
    request = {
        "arguments": arguments,
        "environment": environment,
        "cwd": os.getcwd(),
        "umask": umask,
        "inherited": inherited(),
        "files": files_to_pass(),
        "ignored": [n for n in FORWARDED if signal.getsignal(n) is signal.SIG_IGN],
        "blocked": [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    }
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(address)
    content = marshal.dumps(request)
    numbers = b"".join(n.to_bytes(4, sys.byteorder) for n in request["files"])
    head = len(content).to_bytes(8, "little")
    server.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    server.sendall(content)
    child = int.from_bytes(received(server), "little")
    if not child:
        return
    for number in FORWARDED:  # also those that it ignores: it may handle them by now
        signal.signal(number, lambda n, _: kill(child, n))
    status = int.from_bytes(received(server), "little")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def kill(child: int, number: int) -> None:
    """Hands a signal on."""
    try:
        os.kill(child, number)
    except OSError:
        pass  # it has just ended


def received(server: "socket.socket") -> bytes:
    """Eight bytes."""
    got = b""
    while len(got) < 8:
        part = server.recv(8 - len(got))
        if not part:
            os._exit(121)  # the server is gone
        got += part
    return got


def files_to_pass() -> list[int]:
    """Numbers of the open files that a process started here would inherit."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            pass  # that of the listing itself
    return found


def inherited() -> "list[object]":
    """What a forked process has from the server and not from who asked: users, namespaces
    (another file system, another host), limits, processors.
    """
    found: list[object] = [os.getuid(), os.geteuid(), os.getgid(), sorted(os.sched_getaffinity(0))]
    found += [os.readlink("/proc/self/ns/" + kind) for kind in ("mnt", "net", "pid", "user")]
    with open("/proc/self/limits") as file:
        found.append(file.read())
    found.append(os.getpriority(os.PRIO_PROCESS, 0))
    return found


def text(raw: bytes) -> str:
    """As `os.fsdecode` does."""
    return raw.decode("utf-8", "surrogateescape")


if __name__ == "__main__":
    arguments = sys.argv[2:]
    # `-u` is what torch's launcher gives its ranks. Other options need an interpreter.
    if [word for word in arguments[:1] if word in ("-u", "-m", "-c") or word[:1] != "-"]:
        main(sys.argv[1], arguments)
    os.execv(sys.executable, [sys.executable, *arguments])
