"""The environment of processes that this program starts.

The one place that decides what each of them gets, whichever library starts it.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Python imports nothing from the working folder, where a user's `random.py` or `types.py` would
be run in place of the standard library's.
"""


def set_safe_path(environment: MutableMapping[str, str]) -> None:
    """Sets that processes of an environment import nothing from their working folder.

    environment: `os.environ`, for those that libraries start, or that of one process.
    """
    environment.update(SAFE_PATH)


def child_environment() -> dict[str, str]:
    """The environment of a process to be started: this process's, with a safe path."""
    # Name by name: another thread may remove one meanwhile.
    variables = ((name, os.environ.get(name)) for name in list(os.environ))
    environment = {name: value for name, value in variables if value is not None}
    set_safe_path(environment)
    return environment


@contextmanager
def applied_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """A block in which this process has the variables, too."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def program_to_type(name: str) -> str:
    """What a user types to start a program that was installed with this one: its name, or its
    path if the environment is not activated.
    """
    return name if shutil.which(name) else os.path.relpath(Path(sys.executable).with_name(name))
