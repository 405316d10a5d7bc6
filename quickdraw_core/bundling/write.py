"""Writes a bundle: graphs, weights, model card and `bundle.json`, whole or not at all."""

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from safetensors.torch import save

from quickdraw_core import __version__
from quickdraw_core.bundling.graph import BundleMember, graph_of, groups_of
from quickdraw_core.errors import ConfigError
from quickdraw_core.labels import LabelMap
from quickdraw_core.serving.bundle import (
    CARD_NAME,
    FORMAT,
    INFO_NAME,
    WEIGHTS_NAME,
    BundleInfo,
    FileInfo,
    Graph,
    HeldOutInfo,
    Member,
    Metric,
    is_bundle,
)
from quickdraw_core.system.files import open_atomic, require_writable, write_errors
from quickdraw_core.system.locks import held, lock_of_file

NORMALISATION = "uint8 / 255, in the graph"
_VERSIONS = ("torch", "onnx", "onnxscript")


@dataclass(frozen=True)
class BundleFacts:
    """What a bundle says of its model beside the weights: see `BundleInfo`."""

    name: str
    label_map: LabelMap
    store_fingerprint: str
    also_fingerprints: tuple[str, ...] = ()
    key: str = ""
    metrics: dict[str, Metric] | None = None
    per_class: dict[str, float] | None = None
    confusions: dict[str, list[str]] = field(default_factory=dict)
    held_out: HeldOutInfo | None = None
    quantized: Literal["int8"] | None = None
    float32_map_at_3: float | None = None


def graphs_of(members: Sequence[BundleMember]) -> dict[str, bytes]:
    """File name → ONNX graph, one for each kind of image. Raises `BundleError`."""
    groups = groups_of(members)
    names = ["model.onnx"] if len(groups) == 1 else [f"model-{i}.onnx" for i in range(len(groups))]
    return {
        name: graph_of([members[number] for number in group])
        for name, group in zip(names, groups, strict=True)
    }


def write_bundle(
    folder: Path,
    members: Sequence[BundleMember],
    facts: BundleFacts,
    card: Callable[[BundleInfo], str],
    graphs: dict[str, bytes] | None = None,
) -> BundleInfo:
    """Writes a bundle to a folder, in place of a bundle that is there.

    card: the text of README.md. graphs: as `graphs_of` gives them, or quantized ones in their
    place. Raises `ConfigError` for a folder of something else, `BundleError` for a network that
    cannot be exported, `BusyError` and `WriteError`.
    """
    check_bundle_folder(folder)
    graphs = graphs if graphs is not None else graphs_of(members)
    files = {**graphs, WEIGHTS_NAME: weights_of(members)}
    info = _info(members, facts, files)
    files[CARD_NAME] = card(info).encode()
    info = info.model_copy(update={"files": {name: _file(data) for name, data in files.items()}})
    files[INFO_NAME] = info.to_json().encode()
    with held(lock_of_file(folder.resolve()), str(folder), "export"):
        _mend(folder)
        check_bundle_folder(folder)
        _replace(folder, files)
    return info


def check_bundle_folder(folder: Path) -> None:
    """Raises `ConfigError` if a bundle cannot be written there: not a folder, another's, not
    writable.
    """
    require_writable(folder)
    if folder.is_dir() and not is_bundle(folder) and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds files and is no bundle; give another folder, or empty it"
        )


def weights_of(members: Sequence[BundleMember]) -> bytes:
    """All weights in the form of safetensors, by their names in the network; those of an ensemble
    begin with the member's number: `0.`, `1.`, ….
    """
    prefixes = [""] if len(members) == 1 else [f"{number}." for number in range(len(members))]
    tensors = {
        prefix + name: value.detach().cpu().contiguous().clone()
        for prefix, member in zip(prefixes, members, strict=True)
        for name, value in member.network.state_dict().items()
    }
    return save(tensors, metadata={"format": "pt"})


def weights_digest(digests: Sequence[str]) -> str:
    """One SHA-256 for the weights of all members; of one model its own."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _info(
    members: Sequence[BundleMember],
    facts: BundleFacts,
    files: dict[str, bytes],
) -> BundleInfo:
    groups = groups_of(members)
    graph_of_member = {number: i for i, group in enumerate(groups) for number in group}
    onnx_files = [name for name in files if name != WEIGHTS_NAME]
    return BundleInfo(
        format=FORMAT,
        name=facts.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"quickdraw": __version__} | {name: version(name) for name in _VERSIONS},
        words=facts.label_map.words,
        label_map_sha256=facts.label_map.sha256,
        graphs=tuple(
            Graph(file=name, image=members[group[0]].image, members=len(group))
            for name, group in zip(onnx_files, groups, strict=True)
        ),
        normalisation=NORMALISATION,
        networks=tuple(
            Member(
                model=member.model.name,
                small_stem=member.model.has_small_stem(member.image.side_px),
                flip_tta=member.flip_tta,
                weights_sha256=member.weights_sha256,
                logit_adjustment=member.logit_adjustment,
                graph=graph_of_member[number],
            )
            for number, member in enumerate(members)
        ),
        weights_sha256=weights_digest([member.weights_sha256 for member in members]),
        store_fingerprint=facts.store_fingerprint,
        also_fingerprints=facts.also_fingerprints,
        metrics=facts.metrics,
        per_class=facts.per_class,
        confusions=facts.confusions,
        held_out=facts.held_out,
        quantized=facts.quantized,
        float32_map_at_3=facts.float32_map_at_3,
        key=facts.key,
        files={name: _file(data) for name, data in files.items()},
    )


def _file(data: bytes) -> FileInfo:
    return FileInfo(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def _mend(folder: Path) -> None:
    """Puts back the former bundle that a killed export had renamed, and deletes the rest.

    Under the folder's lock: what is there is nobody's.
    """
    folder = folder.resolve()
    aside = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.(tmp|old)")
    with write_errors(folder):
        left = [p for p in folder.parent.iterdir() if aside.fullmatch(p.name) and p.is_dir()]
        former = [p for p in left if p.suffix == ".old" and is_bundle(p)]
        if former and not folder.exists():
            max(former, key=lambda path: path.stat().st_mtime).rename(folder)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    """The files are written aside and the folder renamed, so that a bundle is whole or absent."""
    folder, token = folder.resolve(), secrets.token_hex(4)
    aside, old = (folder.with_name(f".{folder.name}.{token}.{kind}") for kind in ("tmp", "old"))
    try:
        for name, data in files.items():
            with open_atomic(aside / name) as file:
                file.write(data)
        with write_errors(folder):
            if folder.is_dir():
                folder.rename(old)
            try:
                aside.rename(folder)
            except OSError:
                if old.is_dir():
                    old.rename(folder)
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
