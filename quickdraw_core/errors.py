"""Every error that this package raises on purpose.

    QuickdrawError
    ├── ConfigError        an option or a configuration value
    ├── BusyError          another command is at work on the same place
    ├── InputError         a source: folder, file, header, class list
    │   ├── UnreadableError    … found while its rows were read (exit code 1)
    │   └── PictureError       a picture: of no known form, too large, damaged, without a drawing
    ├── StoreError         a store or its pack: missing, damaged, of another label map
    │   └── StoreUnreachableError   … its object store does not answer now (exit code 1)
    ├── CheckpointError    a checkpoint or run: missing, damaged, of other classes
    ├── BundleError        a bundle: missing, changed, cut short, written by a newer version
    ├── TrackingError      MLflow lacks the run, or its address is wrong
    │   └── UnreachableError   … does not answer now: another try may do (exit code 1)
    ├── ClusterError       the Dask cluster was lost at work (exit code 1)
    ├── EvaluationError    a model or a process failed while predicting (exit code 1)
    ├── ReaderError        what reads pictures cannot start: a library, processes (exit code 1)
    ├── WriteError         a file cannot be written: no space, a limit, no permission (exit code 1)
    └── TrainingError      the training processes ended without a model (exit code 1)
        ├── DivergedError      … since loss or weights were no longer finite
        └── OutOfMemoryError   … since a rank's memory did not suffice

A message is one line: what was wrong, what was found, what to do. The command line prints it
as it is and exits with `exit_code`; anything that is not a `QuickdrawError` is a defect of this
program and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from quickdraw_core.redaction import without_secrets


class QuickdrawError(Exception):
    """Root of the tree. `exit_code` is what the command line exits with.

    A message is without secrets, whatever it is made of (`redaction.without_secrets`).
    """

    exit_code = 2

    def __init__(self, *values: object) -> None:
        super().__init__(*(without_secrets(v) if isinstance(v, str) else v for v in values))


class ConfigError(QuickdrawError):
    """An option or a configuration value is unknown, of the wrong type or out of range."""


class BusyError(QuickdrawError):
    """Another command is at work on what this one was to write to."""


class InputError(QuickdrawError):
    """A source cannot be read: folder, file, header or class list."""


class UnreadableError(InputError):
    """A source turned out unreadable once work had begun, hence exit code 1."""

    exit_code = 1


class PictureError(InputError):
    """A picture has no known form, is too large or damaged, or holds no drawing."""


class StoreError(QuickdrawError):
    """A store or its pack is missing, damaged, or disagrees with what it is used with."""


class StoreUnreachableError(StoreError):
    """The object store does not answer: another try may do, hence exit code 1."""

    exit_code = 1


class CheckpointError(QuickdrawError):
    """A checkpoint or run is missing, damaged, or was trained on other classes."""


class BundleError(QuickdrawError):
    """A bundle is missing, was changed or cut short, or was written by a newer version."""


class TrackingError(QuickdrawError):
    """MLflow lacks the run that should be written to, or its address is wrong."""


class UnreachableError(TrackingError):
    """MLflow does not answer, or others change the same thing: another try may do, hence exit
    code 1.
    """

    exit_code = 1


class ClusterError(QuickdrawError):
    """The Dask cluster or its workers were lost. Work was started, hence exit code 1."""

    exit_code = 1


class EvaluationError(QuickdrawError):
    """A process that predicts was lost, or a model gives no numbers. Work was started, hence
    exit code 1.
    """

    exit_code = 1


class ReaderError(QuickdrawError):
    """What reads pictures or SVG cannot start: a library is missing, or there is no process to be
    had. Nothing is wrong with the picture, and the next one fares the same.
    """

    exit_code = 1


class WriteError(QuickdrawError, OSError):
    """A file cannot be written: no space, a limit, no permission. Work was started, hence exit
    code 1. An `OSError`, so that those who do without a file need not know it.
    """

    exit_code = 1


class TrainingError(QuickdrawError):
    """The training processes ended without a model. Work was started, hence exit code 1."""

    exit_code = 1


class DivergedError(TrainingError):
    """Loss or weights were no longer finite: the same again comes to the same end."""


class OutOfMemoryError(TrainingError):
    """The memory of a training process or its GPU did not suffice for a micro-batch."""


def cannot_load(error: Exception, what: str) -> ReaderError:
    """What to raise where the libraries that read `what` cannot be loaded."""
    module = (getattr(error, "name", None) or "a library").partition(".")[0]
    name = {"skimage": "scikit-image", "PIL": "Pillow"}.get(module, module)
    return ReaderError(
        f"{what} cannot be read: {name} cannot be loaded here ({first_line(error)}); install this "
        "package with its extra named serve"
    )


def nearest(
    name: str,
    known: Iterable[str],
    limit: int = 12,
    also: Iterable[str] = (),
    prefix: str = "",
) -> str:
    """Says which of the `known` names was probably meant: the tail of an error message.

    also: further names that may have been meant, but are too many to list. prefix: of all names,
    as the message shows them.
    """
    names = sorted(known)
    close = get_close_matches(name, sorted({*names, *also}), n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(prefix + c) for c in close) + "?"
    return "known: " + first_few([prefix + name for name in names], limit)


def first_few(items: Sequence[str], shown: int = 5, separator: str = ", ") -> str:
    """The first `shown` items of a list, and how many more it has, for a message."""
    return separator.join(items[:shown]) + and_more(len(items) - shown)


def and_more(count: int, what: str = "") -> str:
    """The end of a list that names only its first items: nothing if there are no more."""
    return f" … and {count:,} more {what}".rstrip() if count > 0 else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
