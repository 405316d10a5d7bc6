"""The export stage: models → a bundle, with the numbers of their evaluation."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from quickdraw_core.errors import BundleError
from quickdraw_core.exporting.config import ExportConfig
from quickdraw_core.exporting.evaluated import find_evaluation
from quickdraw_core.exporting.members import bundle_members, name_of
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.held_out import HeldOut, find_held_out, require_same_store
from quickdraw_core.serving.bundle import BundleInfo, is_bundle, open_bundle
from quickdraw_core.serving.evaluated import Evaluated
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of
from quickdraw_core.store.store import open_store
from quickdraw_core.system.code_version import code_version

_EXPORTING_CODE = (
    *("bundling", "exporting", "modeling", "serving/bundle.py", "training/network.py"),
    *("render/encodings.py", "inference/ensemble.py"),
)
"""The code that decides what a bundle holds, beside the weights and the evaluation."""


@dataclass(frozen=True)
class ExportResult:
    """A bundle that was written. skipped: it was there already, made of the same."""

    folder: Path
    info: BundleInfo
    skipped: bool = False

    @property
    def size_bytes(self) -> int:
        """Of all files that it names."""
        return sum(file.size_bytes for file in self.info.files.values())


@dataclass(frozen=True)
class PreparedExport:
    """An export that can begin. evaluated: None if the models were not, or if they are to be
    quantized, and judged as that. held_out: the drawings that a quantized bundle is judged on.
    """

    config: ExportConfig
    models: Ensemble = field(repr=False)
    evaluated: Evaluated | None
    folder: Path
    held_out: HeldOut | None = field(default=None, repr=False)

    @cached_property
    def content_key(self) -> str:
        """A digest of what the bundle is made of: models, numbers, options and code."""
        decisive: list[object] = [
            self.models.digest,
            self.name,
            self.evaluated,
            self.config.quantize,
        ]
        if self.held_out is not None:
            config, store = self.config, self.held_out.pack.fingerprint
            decisive += [store, config.per_class, config.allow_short, config.seed]
        text = "\n".join(map(str, [*decisive, code_version(*_EXPORTING_CODE)]))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.config.name or name_of(self.models)

    def key(self) -> str:
        """A digest of all that decides what is written, and where."""
        return key_of("export", self.content_key, str(self.folder))

    def finished(self) -> ExportResult | None:
        """The bundle that is there, if it was made of the same and is whole."""
        if not is_bundle(self.folder):
            return None
        try:
            info = open_bundle(self.folder).info
        except BundleError:
            return None
        return ExportResult(self.folder, info, True) if info.key == self.content_key else None

    def unfinished(self) -> Outlook:
        """Why there is no bundle to use."""
        there = "the one there is of other models or options, or was changed"
        return Outlook(Action.ANEW, there if is_bundle(self.folder) else "there is no bundle yet")

    def into(self, folder: Path) -> "PreparedExport":
        """The same export to another folder."""
        return replace(self, folder=folder)

    def run(self) -> ExportResult:
        """Writes the bundle. Raises `BundleError` (also if it loses too much by being quantized),
        `ConfigError`, `BusyError` or `WriteError`.
        """
        # Here, since what exports takes seconds to load, and a finished export needs none of it.
        from quickdraw_core.bundling.model_card import model_card
        from quickdraw_core.bundling.write import BundleFacts, graphs_of, write_bundle

        found = self.evaluated
        also = {member.config.select.also_fingerprint for member in self.models.members}
        facts = BundleFacts(
            name=self.name,
            label_map=self.models.label_map,
            store_fingerprint=self.models.members[0].checkpoint.store_fingerprint,
            also_fingerprints=tuple(sorted(filter(None, also))),
            key=self.content_key,
            **({} if found is None else found._asdict()),
        )
        members = bundle_members(self.models)
        graphs = graphs_of(members)

        def write(folder: Path, graphs: dict[str, bytes]) -> BundleInfo:
            return write_bundle(folder, members, facts, model_card, graphs)

        if self.held_out is not None:
            from quickdraw_core.exporting.quantization import quantized

            small = quantized(self.config, self.held_out, graphs, write)
            graphs = small.graphs
            facts = replace(
                facts,
                quantized=self.config.quantize,
                float32_map_at_3=small.float32_map_at_3,
                **small.evaluated._asdict(),
            )
        return ExportResult(self.folder, write(self.folder, graphs))


def prepare(config: ExportConfig, opened: Opened) -> PreparedExport:
    """Opens the models and finds their evaluation, or the drawings to judge a quantized bundle on,
    and checks that a bundle can be written.

    Raises `ConfigError`, `CheckpointError` or `StoreError`.
    """
    from quickdraw_core.bundling.write import check_bundle_folder

    check_bundle_folder(config.out)
    models = load_models(
        config.models, config.tracking_uri, config.average, config.tta, opened=opened
    )
    folder = config.out.absolute()
    if config.quantize is None:
        evaluated = find_evaluation(models, config.evaluation, config.tracking_uri)
        return PreparedExport(config, models, evaluated, folder)
    store = open_store(config.store, opened)
    require_same_store(config, models, store)
    held_out = find_held_out(config, store, opened)
    return PreparedExport(config, models, None, folder, held_out)


EXPORT_STAGE = Stage("export", prepare)
