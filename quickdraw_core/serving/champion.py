"""The champion of MLflow's registry: its bundle, and a server that follows it.

    models:/NAME@ALIAS or models:/NAME/3 → version → its run's logged model → bundle → recognizer

A bundle is downloaded once, to the cache folder, under the digest of its weights. torch is not
needed.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from quickdraw_core.errors import BundleError, QuickdrawError, first_line
from quickdraw_core.serving.bundle import Bundle, is_bundle, open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.system.files import cache_folder, write_errors
from quickdraw_core.tracking.logged_model import fetch_bundle
from quickdraw_core.tracking.registry import Version, find_version

CHECK_SECONDS = 20.0
"""Between two questions to the registry. A new champion is served within a minute."""

_STOP_SECONDS = 5.0

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
    folder = cache_folder("bundles") / f"logged-{version.weights_sha256}"
    if not is_bundle(folder) and not _download(version, uri, folder):
        bundle = export(version.reference, uri)
    else:
        bundle = _opened(version, folder)
    info = bundle.info.model_copy(update={"name": f"{version.name}@{version.number}"})
    return replace(bundle, info=info)


def _opened(version: Version, folder: Path) -> Bundle:
    """A downloaded bundle; a damaged one is deleted, so that the next try brings another."""
    try:
        bundle = open_bundle(folder)
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


class ChampionWatch:
    """Keeps the model of an alias in a slot: a thread that asks the registry again and again.

    A new champion takes the place of the former one once it has guessed. What hinders that stands
    in the slot's `problem` (in `missing` as long as there is no model) and is said; the former one
    goes on.
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
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="champion")

    def check(self) -> bool:
        """Asks the registry once, and loads what is new; returns whether a model was put in."""
        try:
            version = find_version(self._uri, self._reference)
            if version == self._version:
                self._is_well()
                return False
            bundle = bundle_of_version(version, self._uri, self._export)
            self._slot.swap(BundleRecognizer(bundle, self._threads))
        except Exception as error:  # noqa: BLE001 — whatever it is, the next try may do
            self._failed(error)
            return False
        self._version = version
        self._is_well()
        self._say(f"serving {version.reference}, weights {bundle.version}")
        return True

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
        while not self._ending.is_set():
            self.check()
            self._ending.wait(self._every_seconds)

    def _is_well(self) -> None:
        if self._slot.problem is not None:
            self._say(f"{self._reference} can be looked up and loaded again")
        self._slot.problem = None

    def _failed(self, error: Exception) -> None:
        cause = str(error) if isinstance(error, QuickdrawError) else first_line(error)
        if self._slot.current is None:
            problem = f"there is no model to guess with yet: {cause}"
            self._slot.missing = problem
        else:
            problem = f"{self._slot.current.name} stays, as no newer one can be had: {cause}"
        if problem != self._slot.problem:  # once, not every time
            self._say(problem)
        self._slot.problem = problem
