"""The champion of MLflow's registry: its bundle, and a server that follows it.

    models:/NAME@ALIAS or models:/NAME/3 → version → its run's logged model → bundle → recognizer

A bundle is downloaded once, to the cache folder, under the digest of its weights. torch is not
needed.
"""

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from quickdraw_core.errors import (
    BundleError,
    CheckpointError,
    QuickdrawError,
    TrackingError,
    first_line,
)
from quickdraw_core.serving.bundle import Bundle, UnreadBundleError, is_bundle, open_bundle
from quickdraw_core.serving.evaluated import fetch_evaluated
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.system.files import cache_folder, write_errors
from quickdraw_core.tracking.logged_model import fetch_bundle
from quickdraw_core.tracking.registry import Version, find_version

CHECK_SECONDS = 20.0
"""Between two questions to the registry. A new champion is served within a minute."""

_STOP_SECONDS = 5.0
_LONGEST_SECONDS = 600.0
"""Between two tries to load a version that failed."""
_DAY_SECONDS = 86_400.0
_SHA256 = re.compile(r"[0-9a-f]{64}")

Export = Callable[[str, str], Bundle]
"""Makes the bundle of a model from its checkpoint: reference, tracking address → bundle."""


def registered_bundle(reference: str, uri: str, export: Export) -> Bundle:
    """The bundle of a registered model, named `NAME@3`.

    export: for a version whose run has no bundle, as an earlier version of this program trained
    it. Raises what `find_version` does, `BundleError`, and what `export` raises.
    """
    return bundle_of_version(find_version(uri, reference), uri, export)


def bundle_of_version(version: Version, uri: str, export: Export) -> Bundle:
    """As `registered_bundle`."""
    if not _SHA256.fullmatch(version.weights_sha256):  # it becomes the name of a folder
        raise CheckpointError(f"the weights' digest of {version.reference} is no SHA-256")
    folder = cache_folder("bundles") / f"logged-{version.weights_sha256}"
    if not is_bundle(folder) and not _download(version, uri, folder):
        bundle = export(version.reference, uri)
    else:
        bundle = _opened(version, folder)
    found = None
    if bundle.info.metrics is None:
        found = fetch_evaluated(bundle.info, uri, version.run_id)
    name = {"name": f"{version.name}@{version.number}"}
    update = name if found is None else name | found._asdict()
    return replace(bundle, info=bundle.info.model_copy(update=update))


def _opened(version: Version, folder: Path) -> Bundle:
    """A downloaded bundle; a damaged one is deleted, so that the next try brings another."""
    try:
        bundle = open_bundle(folder)
    except UnreadBundleError:
        raise
    except BundleError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if bundle.info.weights_sha256 != version.weights_sha256:
        shutil.rmtree(folder, ignore_errors=True)
        raise BundleError(
            f"{version.reference} was registered with weights {version.weights_sha256[:12]}, but "
            f"the bundle in its run {version.run_id} has {bundle.info.weights_sha256[:12]}; "
            "promote the run again"
        )
    return bundle


def _download(version: Version, uri: str, folder: Path) -> bool:
    """Brings a version's bundle to a folder; returns whether its run has one."""
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download.") as temporary:
            fetched = fetch_bundle(uri, version.run_id, version.weights_sha256, Path(temporary))
            if fetched is None:
                return False
            try:
                fetched.rename(folder)
            except OSError:
                if not is_bundle(folder):  # another process was first
                    raise
    return True


def _sweep(bundles: Path) -> None:
    """Deletes what downloads left that were killed more than a day ago."""
    for left in bundles.glob(".download.*"):
        with suppress(OSError):
            if left.stat().st_mtime < time.time() - _DAY_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


class ChampionWatch:
    """Keeps the model of an alias in a slot: a thread that asks the registry again and again.

    A new champion takes the place of the former one once it has guessed. What hinders that stands
    in the slot's `problem` (in `missing` as long as there is no model), for everyone and without
    addresses and paths, and is said with them; the former one goes on. A version that does not
    load is tried again after a while that doubles.
    """

    def __init__(
        self,
        reference: str,
        uri: str,
        slot: ModelSlot,
        export: Export,
        say: Callable[[str], None],
        threads: int = 1,
        every_seconds: float = CHECK_SECONDS,
    ) -> None:
        """reference: `models:/NAME@ALIAS`. say: takes a line about a model that was put in, or
        about what hinders one. threads: as `BundleRecognizer` has them.
        """
        self._reference, self._uri, self._slot, self._export = reference, uri, slot, export
        self._say, self._threads, self._every_seconds = say, threads, every_seconds
        self._version: Version | None = None
        self._served: BundleRecognizer | None = None
        self._refused: Version | None = None
        self._refused_why, self._failures, self._again_at = "", 0, 0.0
        self._said = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="champion")

    def check(self) -> bool:
        """Asks the registry once, and loads what is new; returns whether a model was put in."""
        try:
            version = find_version(self._uri, self._reference)
        except Exception as error:  # noqa: BLE001 — whatever it is, the next try may do
            self._failed(error, self._why_not_found(error))
            return False
        if version == self._version:
            self._is_well()
            self._look_for_evaluation(version)
            return False
        if version == self._refused and time.monotonic() < self._again_at:
            self._show(self._refused_why)
            return False
        try:
            bundle = bundle_of_version(version, self._uri, self._export)
            served = BundleRecognizer(bundle, self._threads)
            self._slot.swap(served)
        except Exception as error:  # noqa: BLE001 — whatever it is, the next try may do
            self._put_off(version)
            self._failed(error, self._refused_why)
            return False
        self._version, self._served = version, served
        self._is_well()
        self._tell(f"serving {version.reference}, weights {bundle.version}")
        return True

    def _look_for_evaluation(self, version: Version) -> None:
        """Shows the numbers of an evaluation that ended after the model was put in."""
        served = self._served
        if served is None or served.info.metrics is not None:
            return
        evaluated = fetch_evaluated(served.info, self._uri, version.run_id)
        if evaluated is not None:
            info = served.info.model_copy(update=evaluated._asdict())
            self._served = served.described_by(info)
            self._slot.swap(self._served)

    @property
    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Watches in a thread, beginning now."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and waits for it for a while: a request may be under way."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def _watch(self) -> None:
        try:
            while not self._ending.is_set():
                # Whatever it is: a watch that ends would leave the former model there for good.
                with suppress(BaseException):
                    self.check()
                self._ending.wait(self._every_seconds)
        finally:
            if not self._ending.is_set():
                self._show("the registry is no longer asked: restart the server")

    def _tell(self, line: str) -> None:
        """Says a line, if there is still an output to say it on."""
        with suppress(Exception, SystemExit):  # SystemExit: what rich makes of a closed one
            self._say(line)

    def _is_well(self) -> None:
        self._refused, self._failures = None, 0
        if self._slot.problem is not None:
            self._slot.problem, self._said = None, ""
            self._tell(f"{self._reference} can be looked up and loaded again")

    def _why_not_found(self, error: Exception) -> str:
        if isinstance(error, CheckpointError):
            return f"no model {self._reference} is in the registry: promote one"
        if isinstance(error, TrackingError):
            return "the registry cannot be reached"
        return "the registry cannot be asked"

    def _put_off(self, version: Version) -> None:
        """Says to itself when to try a version again that did not load."""
        self._failures = self._failures + 1 if version == self._refused else 1
        wait = min(self._every_seconds * 2.0 ** min(self._failures - 1, 30), _LONGEST_SECONDS)
        self._refused, self._again_at = version, time.monotonic() + wait
        newer = "the champion" if self._slot.current is None else "a newer model"
        self._refused_why = f"{newer} cannot be loaded"

    def _failed(self, error: Exception, why: str) -> None:
        """why: for everyone; the error's own message is for who runs the server."""
        self._show(why)
        cause = str(error) if isinstance(error, QuickdrawError) else first_line(error)
        line = f"{self._slot.problem}: {cause}"
        if line != self._said:  # once, not every time
            self._said = line
            self._tell(line)

    def _show(self, why: str) -> None:
        if self._slot.current is None:
            problem = f"there is no model to guess with yet: {why}"
            self._slot.missing = problem
        else:
            problem = f"{self._slot.current.name} stays: {why}"
        self._slot.problem = problem
