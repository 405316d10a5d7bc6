"""A bundle: a folder that guesses without the code and the libraries that trained its model.

    BUNDLE/bundle.json          what it is: `BundleInfo`, with the SHA-256 of all other files
    BUNDLE/model.onnx           uint8 [N, C, S, S] `images` → float32 [N, K] `log_probabilities`
    BUNDLE/model.safetensors    the same weights, for other libraries
    BUNDLE/README.md            the model card

An ensemble whose members read different images has a graph for each kind of image: `model-0.onnx`,
`model-1.onnx`, …. Opening a bundle runs no code of it: JSON is parsed, bytes are hashed, and a
graph is made of operators that the runtime has.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from quickdraw_core.config import Config
from quickdraw_core.errors import BundleError, QuickdrawError, first_few
from quickdraw_core.labels import LabelMap
from quickdraw_core.render.encodings import ImageConfig
from quickdraw_core.system.files import cause_of

FORMAT = 1
"""Of the folder. A bundle of a later format is refused, one of an earlier format is read."""

INFO_NAME, WEIGHTS_NAME, CARD_NAME = "bundle.json", "model.safetensors", "README.md"

_MAX_INFO_BYTES = 16 << 20
_DIGEST = "sha256"
_AGAIN = "export the model again, or copy the bundle again"


class UnreadBundleError(BundleError):
    """A bundle that may be whole: of a later format, or not to be read now."""


class Metric(Config):
    """A score on the held-out drawings and its 95 % interval."""

    value: float
    low: float
    high: float


class FileInfo(Config):
    """A file of the bundle, as it was written."""

    sha256: str
    size_bytes: int = Field(ge=0)


class Graph(Config):
    """A graph and the images that it reads. members: how many models' mean it gives."""

    file: str
    image: ImageConfig
    members: int = Field(ge=1)


class Member(Config):
    """A model of the bundle: what else than the weights is needed to build it again.

    logit_adjustment: the tau in its last layer's bias (`training/validation.py`), 0 for none.
    graph: which of `BundleInfo.graphs` it is in. weights_sha256: of its weights alone, as its
    checkpoint has it.
    """

    model: str
    small_stem: bool
    flip_tta: bool
    weights_sha256: str
    logit_adjustment: float = 0.0
    graph: int = Field(0, ge=0)


class HeldOutInfo(Config):
    """The drawings that the metrics were measured on.

    recognized, unrecognized: the metrics on those drawings that the game's own model recognized
    at the time, or did not; empty if there are none.
    """

    store_fingerprint: str
    drawings: int
    per_class: int
    recognized: dict[str, Metric] = Field(default_factory=dict)
    unrecognized: dict[str, Metric] = Field(default_factory=dict)


class BundleInfo(Config):
    """`bundle.json`.

    name: for people (`laptop`, `quickdraw@3`). versions: of the packages that made it.
    metrics, per_class (MAP@3 of each word), confusions (word → the words that it is most often
    taken for, most often first): on the held-out drawings; None and empty if the model was not
    evaluated. quantized: the form of the graphs' numbers, None: float32. float32_map_at_3: of a
    quantized bundle, what its float32 form reaches on the same drawings. weights_sha256: of all
    members together. also_fingerprints: of second stores that a member learned from as well
    (`select.also`). key: a digest of all that the bundle was made of, for whoever would make it
    again.
    """

    format: int
    name: str
    created_at: str
    versions: dict[str, str]
    words: tuple[str, ...]
    label_map_sha256: str
    graphs: tuple[Graph, ...] = Field(min_length=1)
    normalisation: str
    networks: tuple[Member, ...] = Field(min_length=1)
    weights_sha256: str
    store_fingerprint: str
    also_fingerprints: tuple[str, ...] = ()
    metrics: dict[str, Metric] | None = None
    per_class: dict[str, float] | None = None
    confusions: dict[str, list[str]] = Field(default_factory=dict)
    held_out: HeldOutInfo | None = None
    quantized: Literal["int8"] | None = None
    float32_map_at_3: float | None = None
    key: str = ""
    files: dict[str, FileInfo]

    @property
    def image(self) -> ImageConfig:
        """The images that it reads; of an ensemble with several kinds, the first."""
        return self.graphs[0].image

    @property
    def members(self) -> int:
        """How many models it is the mean of."""
        return len(self.networks)

    @property
    def flip_tta(self) -> bool:
        """Whether a model of it judges each drawing together with its mirror image."""
        return any(network.flip_tta for network in self.networks)

    @model_validator(mode="after")
    def _names_its_graphs(self) -> "BundleInfo":
        missing = [graph.file for graph in self.graphs if graph.file not in self.files]
        if missing:
            raise ValueError(f"the graph {missing[0]!r} is not among the files")
        counts = [sum(n.graph == i for n in self.networks) for i in range(len(self.graphs))]
        if counts != [graph.members for graph in self.graphs] or sum(counts) != self.members:
            raise ValueError("graphs and networks disagree about the number of members")
        outside = [name for name in self.files if not _is_file_name(name)]
        if outside:
            raise ValueError(f"{outside[0]!r} is no name of a file in the bundle")
        return self

    def to_json(self) -> str:
        """The text of `bundle.json`, which ends with its own digest."""
        values = self.model_dump(mode="json")
        return (
            json.dumps({**values, _DIGEST: _digest(values)}, indent=1, ensure_ascii=False) + "\n"
        )


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are whole. graphs: the bytes of each graph, as they were verified."""

    path: Path
    info: BundleInfo
    graphs: tuple[bytes, ...]

    @cached_property
    def label_map(self) -> LabelMap:
        """The words that it knows."""
        return LabelMap(self.info.words)

    @property
    def version(self) -> str:
        """Tells bundles of one name apart: the first 12 digits of its weights' SHA-256."""
        return self.info.weights_sha256[:12]


def is_bundle(path: Path) -> bool:
    """Whether a folder is meant as a bundle: whether it has a `bundle.json`."""
    return (path / INFO_NAME).is_file()


def open_bundle(path: Path) -> Bundle:
    """Opens a bundle and verifies each byte of it.

    Raises `BundleError` that names the file: no bundle, of a later format, files missing, changed,
    cut short or added.
    """
    info = read_info(path)
    _require_files(path, info)
    graphs = {graph.file: b"" for graph in info.graphs}
    for name, expected in info.files.items():
        data = _verified(path, name, expected)
        if name in graphs:
            graphs[name] = data
    return Bundle(path, info, tuple(graphs[graph.file] for graph in info.graphs))


def read_info(path: Path) -> BundleInfo:
    """Reads and checks a bundle's `bundle.json`, but no other file. Raises `BundleError`."""
    values = _read_json(path)
    version = values.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{path} is no bundle: its {INFO_NAME} names no format")
    if version > FORMAT:
        made_by = values.get("versions")
        made_by = made_by.get("quickdraw") if isinstance(made_by, dict) else None
        raise UnreadBundleError(
            f"the bundle {path} has format {version}"
            + (f", written by quickdraw {made_by}" if isinstance(made_by, str) else "")
            + f"; this version reads formats up to {FORMAT}: install a newer one"
        )
    if values.pop(_DIGEST, None) != _digest(values):
        raise BundleError(
            f"the bundle {path} was changed: {INFO_NAME} does not match its own digest; {_AGAIN}"
        )
    try:
        info = BundleInfo.parse(values)
        LabelMap.from_json({"words": info.words, "sha256": info.label_map_sha256})
    except QuickdrawError as error:
        raise BundleError(f"the bundle {path} is damaged: {INFO_NAME}: {error}") from error
    return info


def _read_json(path: Path) -> dict[str, Any]:
    file = path / INFO_NAME
    try:
        if file.stat().st_size > _MAX_INFO_BYTES:
            raise BundleError(f"{path} is no bundle: its {INFO_NAME} is larger than 16 MB")
        values = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"{path} is no bundle: it has no {INFO_NAME}; quickdraw export writes one"
        ) from error
    except OSError as error:
        raise UnreadBundleError(f"cannot read the bundle {path}: {cause_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"the bundle {path} was changed or cut short: {INFO_NAME} is no JSON; {_AGAIN}"
        ) from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} is no bundle: its {INFO_NAME} holds no object")
    return values


def _require_files(path: Path, info: BundleInfo) -> None:
    """Hidden files are passed over: they are version control's or a downloader's."""
    there = {p.name for p in path.iterdir() if not p.name.startswith(".")} - {INFO_NAME}
    missing = sorted(set(info.files) - there)
    if missing:
        raise BundleError(f"the bundle {path} lacks {first_few(missing)}; {_AGAIN}")
    added = sorted(there - set(info.files))
    if added:
        raise BundleError(
            f"the bundle {path} was changed: {first_few(added)} is not of it; move that out of "
            "the folder"
        )


def _verified(path: Path, name: str, expected: FileInfo) -> bytes:
    """The bytes of a file. Raises `BundleError` if they are not those that were written."""
    try:
        with (path / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(expected.size_bytes + 1) if size >= expected.size_bytes else b""
    except OSError as error:
        raise UnreadBundleError(
            f"cannot read {name} of the bundle {path}: {cause_of(error)}"
        ) from error
    if len(data) < expected.size_bytes:
        raise BundleError(
            f"the bundle {path} is cut short: {name} has {size:,} bytes of "
            f"{expected.size_bytes:,}; {_AGAIN}"
        )
    if len(data) > expected.size_bytes or hashlib.sha256(data).hexdigest() != expected.sha256:
        raise BundleError(
            f"the bundle {path} was changed: {name} does not match its SHA-256; {_AGAIN}"
        )
    return data


def _is_file_name(name: str) -> bool:
    return not set(name) & {"/", "\\", "\0"} and not name.startswith(".") and name != INFO_NAME


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
