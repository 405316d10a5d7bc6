"""Opens what guesses, by any reference to a model."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from quickdraw_core.errors import BundleError, ConfigError
from quickdraw_core.serving.bundle import Bundle, is_bundle, open_bundle
from quickdraw_core.system.files import cache_folder
from quickdraw_core.system.locks import held
from quickdraw_core.tracking.address import resolve_tracking_uri
from quickdraw_core.tracking.registry import is_registered

if TYPE_CHECKING:
    from quickdraw_core.serving.recognizer import BundleRecognizer

_TRAINING = ("torch", "onnx", "onnxscript", "safetensors")
_WAIT_SECONDS = 600.0
"""For another command that exports the same model."""


def open_recognizer(
    reference: str, tracking_uri: str | None = None, threads: int = 1
) -> "BundleRecognizer":
    """A recognizer of a bundle's folder, or of any model that `quickdraw evaluate` takes.

    Of a registered model it is the bundle in its run. Any other is exported to the user's cache
    folder first, unless it is there, which needs torch. Raises `ConfigError` without it,
    `BundleError`, and what `load_model` and `find_version` raise.
    """
    from quickdraw_core.serving.recognizer import BundleRecognizer

    return BundleRecognizer(find_bundle(reference, tracking_uri), threads)


def find_bundle(reference: str, tracking_uri: str | None = None) -> Bundle:
    """As `open_recognizer`: the bundle itself."""
    path = Path(reference)
    if is_bundle(path):
        return open_bundle(path)
    if is_registered(reference):
        from quickdraw_core.serving.champion import registered_bundle

        return registered_bundle(reference, resolve_tracking_uri(tracking_uri), export_version)
    missing = [name for name in _TRAINING if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{reference} is no bundle, and to make one of it needs {missing[0]}, which is not "
            "installed here; give a folder that quickdraw export wrote, or install this package "
            "with its extra named train"
        )
    return _exported(reference, tracking_uri)


def export_version(reference: str, tracking_uri: str) -> Bundle:
    """The bundle of a registered version whose run has none: made from its checkpoint.

    Raises `ConfigError` if torch is not installed, and what `load_model` raises.
    """
    missing = [name for name in _TRAINING if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the run of {reference} has no bundle, as an earlier version of quickdraw trained "
            f"it, and to make one needs {missing[0]}, which is not installed here; train and "
            "promote a model again, or serve it where this package has its extra named train"
        )
    return _exported(reference, tracking_uri)


def _exported(reference: str, tracking_uri: str | None) -> Bundle:
    """A model's bundle in the cache folder, by the digest of all that it is made of."""
    from quickdraw_core.exporting.config import ExportConfig
    from quickdraw_core.exporting.export import prepare
    from quickdraw_core.stage import Opened

    bundles = cache_folder("bundles")
    values = {"models": [reference], "out": bundles / "unnamed", "tracking_uri": tracking_uri}
    prepared = prepare(ExportConfig.parse(values), Opened())
    prepared = prepared.into(bundles / prepared.content_key[:32])
    folder = prepared.folder
    if prepared.finished() is None:
        # Not the folder's own lock, which the export takes: another command makes the same one.
        lock = folder.with_name(f".{folder.name}.making.lock")
        with held(lock, str(folder), "export", _WAIT_SECONDS):
            if prepared.finished() is None:
                prepared.run()
    try:
        return open_bundle(folder)
    except BundleError:  # it was replaced meanwhile
        return open_bundle(folder)
