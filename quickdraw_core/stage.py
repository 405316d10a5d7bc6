"""A stage of the work: prepared once, then found finished, or run.

    prepare(config, opened) → Prepared     opens and checks everything; refuses before work starts
    Prepared.key()                         what decides the result, as a digest
    Prepared.finished()                    the earlier result, if all of it is still there
    Prepared.unfinished()                  what `run` would do now, and why
    Prepared.run()                         does the work, from where it was

`perform` does all of it without an orchestrator; with one, a task does the same. Both try again
what may go better the second time.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from quickdraw_core.config import Config
from quickdraw_core.errors import (
    DivergedError,
    QuickdrawError,
    UnreadableError,
    WriteError,
    first_line,
)
from quickdraw_core.progress import progress
from quickdraw_core.system.code_version import package_version

RETRIES = 1
RETRY_SECONDS = 10

T = TypeVar("T")
C = TypeVar("C", bound=Config)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Opened:
    """What one call of a command or a flow has open: each store, pack, source, checkpoint and
    model once, however many of its stages use it. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: dict[Hashable, tuple[Hashable, Any]] = {}

    def once(self, name: Hashable, make: Callable[[], T], version: Hashable = None) -> T:
        """What `make` returned at the first call with this name, and at the first one after
        `version` (a file's time and size, say) became another. What raises is not kept.
        """
        with self._lock:
            if name not in self._kept or self._kept[name][0] != version:
                self._kept[name] = version, make()
            return cast(T, self._kept[name][1])

    def keep(self, name: Hashable, thing: object, version: Hashable = None) -> None:
        """Notes what was opened or made elsewhere, for `once`."""
        with self._lock:
            self._kept[name] = version, thing

    def branch(self) -> "Opened":
        """A copy: it has what is open here; what it opens itself is kept as long as it is."""
        branch = Opened()
        with self._lock:
            branch._kept.update(self._kept)
        return branch

    def forget(self) -> None:
        """Has everything opened again."""
        with self._lock:
            self._kept.clear()


class Action(StrEnum):
    """What a stage would do."""

    REUSE = "reuse"
    """Nothing: the earlier result holds."""
    CONTINUE = "continue"
    """The rest: part of the work is done and is kept."""
    ANEW = "do anew"
    """All of the work."""


class Outlook(NamedTuple):
    """What a stage would do now, and why, in words."""

    action: Action
    why: str


class Prepared(Protocol[R_co]):
    """A stage that can begin: all it reads is open, all that can be wrong was checked."""

    def key(self) -> str:
        """A digest of inputs, options, address of the output and code (`key_of`)."""

    def finished(self) -> R_co | None:
        """The result, if an earlier call made it of the same inputs and all of it is there and
        whole. Writes nothing.
        """

    def unfinished(self) -> Outlook:
        """What `run` would do now, and why `finished` finds nothing. Writes nothing."""

    def run(self) -> R_co:
        """Does the work, from what is finished of it."""


@dataclass(frozen=True)
class Stage(Generic[C, R]):
    """How a stage is prepared.

    begun_at: when what is there was made, in seconds since the epoch: of a stage whose
    configuration has `fresh`, when its work last started over; None if nothing is there. forget:
    of a stage without `fresh`, has its work done anew: what it made before such a moment no longer
    counts as finished.
    """

    name: str
    prepare: Callable[[C, Opened], Prepared[R]]
    begun_at: Callable[[C, Opened], float | None] | None = None
    forget: Callable[[C, Opened, float], None] | None = None

    def prepared(self, config: C, opened: Opened) -> Prepared[R]:
        """What `prepare` returns, once for each configuration."""
        name = (self.name, "prepared", config.as_text())
        return opened.once(name, lambda: self.prepare(config, opened))

    def finished(self, config: C, opened: Opened) -> R | None:
        """What the prepared stage says is finished, asked once."""
        name = (self.name, "finished", config.as_text())
        return opened.once(name, self.prepared(config, opened).finished)

    def outlook(self, config: C, opened: Opened) -> Outlook:
        """What `perform` would do now, and why. Writes nothing; raises what `prepare` raises."""
        if self.finished(config, opened) is not None:
            return Outlook(Action.REUSE, "made of the same inputs, options and code, and whole")
        return self.prepared(config, opened).unfinished()

    def anew(self, config: C, opened: Opened, since: float) -> C:
        """The configuration with which all of the work is done, whatever was finished before
        `since`, in seconds since the epoch. What was made later stays: a further attempt of the
        same work goes on.
        """
        if "fresh" in type(config).model_fields:
            return self.going_on(config.updated({"fresh": True}), since, opened)
        if self.forget is not None:
            self.forget(config, opened, since)
            opened.forget()
        return config

    def going_on(self, config: C, since: float, opened: Opened) -> C:
        """What a further attempt is to do, of work first begun at `since`: `fresh` is for what was
        there before. A later attempt continues what an earlier one has begun.
        """
        if self.begun_at is None or not getattr(config, "fresh", False):
            return config
        is_of_before = self.is_of_before(config, since, opened)
        return config if is_of_before else config.updated({"fresh": False})

    def is_of_before(self, config: C, since: float, opened: Opened) -> bool:
        """Whether something is there that was made before a moment. Writes nothing."""
        begun = self.begun_at(config, opened) if self.begun_at is not None else None
        return begun is not None and begun < since


def perform(stage: Stage[C, R], config: C, opened: Opened | None = None) -> R:
    """The earlier result if it holds, else that of the work, which is tried again once.

    Raises what the stage's `prepare` and `run` raise.
    """
    since, opened = time.time(), opened or Opened()

    def attempt(number: int) -> R:
        asked = config
        if number:
            opened.forget()
            asked = stage.going_on(config, since, opened)
        finished = stage.finished(asked, opened)
        return stage.prepared(asked, opened).run() if finished is None else finished

    return tried_again(stage.name, attempt)


def tried_again(
    name: str, attempt: Callable[[int], R], wait: Callable[[float], object] = time.sleep
) -> R:
    """What `attempt` returns, given its number from 0: the first that raises nothing.

    wait: for so many seconds, or less if the next attempt will refuse to begin. Raises what
    the last one raises, or one after which another would find the same.
    """
    for number in range(RETRIES):
        try:
            return attempt(number)
        except Exception as error:
            if not is_worth_retrying(error):
                raise
            with progress(name, None, "") as bar:
                bar.note(f"{first_line(error)}; once more in {RETRY_SECONDS} s")
                wait(RETRY_SECONDS)
    return attempt(RETRIES)


def is_worth_retrying(error: BaseException) -> bool:
    """Not after a refused option or input (exit code 2), a source that cannot be read, a full
    disk, or a loss that is no longer finite: a second try finds the same.

    A lost training process or a cluster that went away is worth it, since every stage goes on
    from what it has finished.
    """
    if isinstance(error, QuickdrawError):
        found_again = isinstance(error, DivergedError | UnreadableError | WriteError)
        return error.exit_code != 2 and not found_again
    return isinstance(error, Exception)


def key_of(name: str, *inputs: object) -> str:
    """A stage's key of what decides its result, as values that JSON or `str` can say."""
    text = json.dumps([name, package_version(), inputs], sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def options_of(config: Config, *but: str) -> dict[str, Any]:
    """A configuration's values but those that decide nothing, as a key may hold them."""
    return config.model_dump(mode="json", exclude={"fresh", *but})
