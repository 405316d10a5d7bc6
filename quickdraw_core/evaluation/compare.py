"""The comparison stage: models against a first one, on the same held-out drawings.

Out, if asked for: a JSON file of all numbers, and a folder with `comparison.html`, which is whole
in itself, and the same as `comparison.md` with its figures.
A comparison belongs to no single run, so MLflow gets nothing of it; but if asked why models
differ, the run of each further model gets the answer.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from quickdraw_core.differences.evaluated import recorded_of_evaluation
from quickdraw_core.differences.recorded import recorded_of
from quickdraw_core.differences.text import why_lines, why_markdown, why_table
from quickdraw_core.differences.why import Why, why
from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.config import CompareConfig
from quickdraw_core.evaluation.publish import publish_why
from quickdraw_core.inference.cached_predictions import (
    EvaluatedPredictions,
    cached_or_predicted,
    evaluated_predictions,
    is_evaluation,
)
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.held_out import find_held_out, on_store, require_same_store
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.launching.gpus import gpus_locked
from quickdraw_core.metrics.bootstrap import LEVEL, RESAMPLES
from quickdraw_core.metrics.comparison_text import comparison_markdown
from quickdraw_core.metrics.differences import Candidate, Comparison, compare
from quickdraw_core.redaction import shown_address
from quickdraw_core.reporting.comparison_figures import draw_class_changes, draw_differences
from quickdraw_core.reporting.comparison_page import WhyText, comparison_page
from quickdraw_core.stage import Action, Opened, Outlook, Stage, key_of, options_of
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.store import Store, open_store
from quickdraw_core.system.files import require_writable, write_atomic
from quickdraw_core.system.locks import held_folder
from quickdraw_core.system.output_files import require_output, write_output
from quickdraw_core.tracking.registry import is_registered


@dataclass(frozen=True)
class CompareResult:
    """Each further model against the first. precisions: what each model computed in, a name of
    PRECISIONS, or UNKNOWN if an evaluation did not record it. reused: how many of the models had
    cached predictions. files: what was written. split: of the holdout. why: for each comparison,
    if asked for, what differs between the trainings. tracking_problem: why MLflow does not have
    that, or None.
    """

    comparisons: tuple[Comparison, ...]
    names: tuple[str, ...]
    precisions: tuple[str, ...]
    reused: int
    files: tuple[Path, ...]
    split: str = "test"
    why: tuple[Why, ...] = ()
    tracking_problem: str | None = None


@dataclass(frozen=True)
class PreparedComparison:
    """A comparison that can begin: store and models are open and belong together.

    models: by reference; without the folders of evaluations.
    """

    config: CompareConfig
    opened: Opened = field(repr=False)
    store: Store = field(repr=False)
    models: Mapping[str, TrainedModel] = field(repr=False)

    def key(self) -> str:
        """A digest of all that decides the comparison, except cached predictions."""
        digests = {name: Ensemble((model,)).digest for name, model in self.models.items()}
        fingerprint = self.store.manifest.fingerprint
        return key_of("compare", digests, fingerprint, options_of(self.config, "store"))

    def finished(self) -> None:
        """Never: nothing of a comparison is kept that could be checked later."""

    def unfinished(self) -> Outlook:
        """A comparison is made each time."""
        return Outlook(Action.ANEW, "made each time, of predictions that are kept")

    def run(self) -> CompareResult:
        """Compares the models with the first of them.

        Raises `BusyError` (another comparison is at work in `out_dir`), `InputError` (predictions
        of other drawings) or `StoreError` before work, `EvaluationError` if the store changed or
        a process that predicts fails.
        """
        out_dir = self.config.out_dir
        with held_folder(out_dir, "comparison") if out_dir else nullcontext():
            return self._compared()

    def _compared(self) -> CompareResult:
        config, models = self.config, self.models
        split = Split[config.split.upper()]
        held_out = find_held_out(config, self.store, self.opened, split)
        evaluated = {
            reference: evaluated_predictions(reference, config, held_out, self.opened)
            for reference in config.models
            if is_evaluation(reference)
        }
        # An evaluation and a model both have a name and a precision.
        compared: list[EvaluatedPredictions | TrainedModel] = [
            evaluated[r] if r in evaluated else models[r] for r in config.models
        ]
        names = names_of(config.models, [model.name for model in compared])
        precisions = tuple(model.precision for model in compared)
        predictions = {reference: each.predictions for reference, each in evaluated.items()}
        cached = set(evaluated)
        with gpus_locked(config.ranks or 1) if models else nullcontext():
            for reference, model in models.items():
                predictions[reference], was_cached = cached_or_predicted(config, model, held_out)
                cached |= {reference} if was_cached else set()
        judged = [Candidate(n, predictions[r]) for n, r in zip(names, config.models, strict=True)]
        comparisons = tuple(compare(judged[0], other, config.seed) for other in judged[1:])
        answers = self._why(names, evaluated) if config.why else ()
        files = _write(config, comparisons, precisions, self.store, answers)
        problem = self._publish(comparisons, answers, files) if answers else None
        count = sum(reference in cached for reference in config.models)
        return CompareResult(
            comparisons, names, precisions, count, files, config.split, answers, problem
        )

    def _why(
        self, names: Sequence[str], evaluated: Mapping[str, EvaluatedPredictions]
    ) -> tuple[Why, ...]:
        """What differs between the first model's training and that of each other."""
        uri, manifest = self.config.tracking_uri, self.store.manifest
        sides = [
            recorded_of_evaluation(name, r, evaluated[r].facts, uri, manifest, self.opened)
            if r in evaluated
            else recorded_of(name, self.models[r], uri, manifest)
            for name, r in zip(names, self.config.models, strict=True)
        ]
        return tuple(why(sides[0], side) for side in sides[1:])

    def _publish(
        self, comparisons: Sequence[Comparison], answers: Sequence[Why], files: Sequence[Path]
    ) -> str | None:
        """Gives each further model's run in MLflow what differs; returns why that failed."""
        problems = []
        for reference, comparison, answer in zip(
            self.config.models[1:], comparisons, answers, strict=True
        ):
            model = self.models.get(reference)
            if model is not None:
                problems.append(publish_why(model, self.config, comparison, answer, files))
        return next(filter(None, problems), None)


def prepare(config: CompareConfig, opened: Opened) -> PreparedComparison:
    """Opens store and models and checks that they belong together.

    Raises `ConfigError`, `CheckpointError` (no such model, or of other words or another store) or
    `StoreError`.
    """
    if config.json_file is not None:
        require_output(config.json_file)
    if config.out_dir is not None:
        require_writable(config.out_dir)
    evaluations = [name for name in config.models if is_evaluation(name)]
    if evaluations and config.split != "test":
        raise ConfigError(
            f"{evaluations[0]} is an evaluation, which holds test drawings, and split is "
            f"{config.split}; give its run or checkpoint, or --split test"
        )
    store = open_store(config.store, opened)
    references = [name for name in dict.fromkeys(config.models) if not is_evaluation(name)]
    models = load_models(
        references, config.tracking_uri, 1, config.tta, precision=config.precision, opened=opened
    )
    require_same_store(config, models, store)
    members = on_store(models, store.manifest.fingerprint).members
    return PreparedComparison(config, opened, store, dict(zip(references, members, strict=True)))


COMPARE_STAGE = Stage("compare", prepare)


def names_of(references: Sequence[str], short: Sequence[str]) -> tuple[str, ...]:
    """A unique name for each model: the short one if that is unique, else its reference."""
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
    store: Store,
    answers: Sequence[Why],
) -> tuple[Path, ...]:
    value = {
        "comparisons": [comparison.to_json() for comparison in comparisons],
        **({"why": [answer.to_json() for answer in answers]} if answers else {}),
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "seed": config.seed},
        "compared": {
            "models": list(config.models),
            "store_fingerprint": store.manifest.fingerprint,
            "split": config.split,
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
            [f"differences-{number}.png", f"classes-{number}.png"]
            for number in range(1, len(comparisons) + 1)
        ]
        for comparison, (metrics, classes) in zip(comparisons, figures, strict=True):
            draw_differences(comparison, config.out_dir / metrics)
            draw_class_changes(comparison, config.out_dir / classes)
        page = config.out_dir / "comparison.md"
        text = comparison_markdown(comparisons, figures, why_markdown(answers), config.split)
        write_atomic(page, text, sync=False)
        texts = [WhyText(why_lines(answer), why_table(answer)[1]) for answer in answers]
        html = config.out_dir / "comparison.html"
        facts = _facts(config, comparisons, precisions, store)
        write_atomic(html, comparison_page(comparisons, texts, facts), sync=False)
        files += [html, page, *(config.out_dir / name for pair in figures for name in pair)]
    return tuple(files)


def _facts(
    config: CompareConfig,
    comparisons: Sequence[Comparison],
    precisions: Sequence[str],
    store: Store,
) -> dict[str, str]:
    """What was compared and how, for the page."""
    judged = [f"{n} (in {p})" for n, p in zip(config.models, precisions, strict=True)]
    return {
        "models": ", ".join(judged),
        f"{config.split} drawings": f"{comparisons[0].n:,}, at most {config.per_class:,} a class",
        "store": f"{shown_address(str(store.path))}, fingerprint {store.manifest.fingerprint}",
        "TTA": config.tta,
        "intervals": f"middle {LEVEL:.0%} of {RESAMPLES:,} paired resamples, seed {config.seed}",
    }
