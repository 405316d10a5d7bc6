"""The comparison stage: models against a first one, on the same held-out drawings.

Out, where asked for: a JSON file of all numbers, and a folder with `comparison.md` and its
figures. Nothing is written to MLflow: a comparison belongs to no single run.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from quickdraw_core.evaluation.bootstrap import LEVEL, RESAMPLES
from quickdraw_core.evaluation.compare_figure import draw_class_changes, draw_differences
from quickdraw_core.evaluation.config import JudgedConfig
from quickdraw_core.evaluation.differences import Comparison, Named, compare
from quickdraw_core.evaluation.ensemble import load_models, pinned_references
from quickdraw_core.evaluation.held_out import held_out_rows, judged_on, require_same_store
from quickdraw_core.evaluation.model import TrainedModel
from quickdraw_core.evaluation.reuse import is_evaluation, predictions_left, predictions_of
from quickdraw_core.evaluation.verdicts import comparison_markdown
from quickdraw_core.files import require_writable, write_aside
from quickdraw_core.locks import held_folder
from quickdraw_core.output_files import require_output, write_output
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.registry import is_registered


class CompareConfig(JudgedConfig):
    """Which models to compare, on what, and where the answer goes."""

    models: tuple[str, ...] = Field(
        min_length=2,
        description="checkpoint files, run folders, MLflow run ids, registered models, or folders "
        "of evaluations; all are compared with the first",
    )
    json_file: Path | None = Field(None, description="file that all numbers are written to")
    out_dir: Path | None = Field(
        None, description="folder for the comparison in words and figures"
    )


@dataclass(frozen=True)
class CompareResult:
    """Each further model against the first. precisions: what each model computed in, a name of
    PRECISIONS; UNKNOWN where an evaluation did not record it. reused: how many of the models had
    been evaluated, so that their predictions were there. files: what was written.
    """

    comparisons: tuple[Comparison, ...]
    names: tuple[str, ...]
    precisions: tuple[str, ...]
    reused: int
    files: tuple[Path, ...]


def compare_models(config: CompareConfig) -> CompareResult:
    """Compares models with the first of them.

    Raises `ConfigError`, `CheckpointError` (no such model, or of other words or another store),
    `InputError` (predictions of other drawings), `StoreError` or `BusyError` (another comparison
    is at work in `out_dir`) before work, `EvaluationError` where a process that predicts is lost.
    """
    store, models = check(config)
    with held_folder(config.out_dir, "comparison") if config.out_dir else nullcontext():
        return _compare(config, store, models)


def _compare(
    config: CompareConfig, store: Store, models: dict[str, tuple[str, TrainedModel]]
) -> CompareResult:
    """Judges models and compares them with the first of them."""
    pack = open_pack(store)
    held_out_rows(config, pack)
    left = {r: predictions_left(r, config, pack) for r in config.models if is_evaluation(r)}
    names = names_of(
        config.models, [left[r].name if r in left else models[r][1].name for r in config.models]
    )
    precisions = tuple(
        left[r].precision if r in left else models[r][1].precision for r in config.models
    )
    judged, reused = [], 0
    for name, reference in zip(names, config.models, strict=True):
        if reference in left:
            predictions, was_there = left[reference].predictions, True
        else:
            predictions, was_there = predictions_of(config, *models[reference], pack)
        judged.append(Named(name, predictions))
        reused += was_there
    comparisons = tuple(compare(judged[0], other, config.seed) for other in judged[1:])
    files = _write(config, comparisons, precisions, pack.fingerprint)
    return CompareResult(comparisons, names, precisions, reused, files)


def check(config: CompareConfig) -> tuple[Store, dict[str, tuple[str, TrainedModel]]]:
    """Opens store and models and makes sure that they belong together.

    Returns the models that are no evaluations, by what they were asked for as: a reference that
    has a number where that had an alias, so that all processes load the same, and the model.
    """
    if config.json_file is not None:
        require_output(config.json_file)
    if config.out_dir is not None:
        require_writable(config.out_dir)
    store = Store.open(config.store)
    asked = [reference for reference in config.models if not is_evaluation(reference)]
    references = pinned_references(asked, config.tracking_uri)
    models = load_models(
        references, config.tracking_uri, 1, config.tta, precision=config.precision
    )
    require_same_store(config, models, store)
    members = judged_on(models, store.manifest.fingerprint).members
    return store, dict(zip(asked, zip(references, members, strict=True), strict=True))


def names_of(references: Sequence[str], short: Sequence[str]) -> tuple[str, ...]:
    """A name for each model that tells it from the others: short where that will do."""
    names = [
        reference if is_registered(reference) else name
        for reference, name in zip(references, short, strict=True)
    ]
    return tuple(
        reference if names.count(name) > 1 else name
        for name, reference in zip(names, references, strict=True)
    )


def _write(
    config: CompareConfig,
    comparisons: Sequence[Comparison],
    precisions: Sequence[str],
    fingerprint: str,
) -> tuple[Path, ...]:
    value = {
        "comparisons": [found.to_json() for found in comparisons],
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "seed": config.seed},
        "compared": {
            "models": list(config.models),
            "store_fingerprint": fingerprint,
            "per_class": config.per_class,
            "tta": config.tta,
            "precisions": list(precisions),
        },
    }
    files = []
    if config.json_file is not None:
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        write_output(config.json_file, text)
        files.append(config.json_file)
    if config.out_dir is not None:
        figures = [
            [f"differences-{place}.png", f"classes-{place}.png"]
            for place in range(1, len(comparisons) + 1)
        ]
        for comparison, (metrics, classes) in zip(comparisons, figures, strict=True):
            draw_differences(comparison, config.out_dir / metrics)
            draw_class_changes(comparison, config.out_dir / classes)
        page = config.out_dir / "comparison.md"
        write_aside(page, comparison_markdown(comparisons, figures), sync=False)
        files += [page, *(config.out_dir / name for pair in figures for name in pair)]
    return tuple(files)
