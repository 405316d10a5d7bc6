"""What an evaluation of a model found, as its bundle says it: `evaluation.json` → `Evaluated`.

A training writes its bundle before anyone can have evaluated it. So the numbers of a registered
model are those that an evaluation left in the same MLflow run, if it was of the same weights.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from quickdraw_core.errors import QuickdrawError
from quickdraw_core.serving.bundle import BundleInfo, HeldOutInfo, Metric
from quickdraw_core.tracking.runs import brief_requests, fetch_file

EVALUATION_NAME = "evaluation.json"
FOLDER = "evaluation"
"""Among a run's files, of the evaluation of its best checkpoint, used plainly."""

FP32, PLAIN = "fp32", "none"
"""The precision and the TTA of a bundle, by the names of `Precision` and `Tta`."""


class Evaluated(NamedTuple):
    """The fields of `BundleInfo` of these names."""

    metrics: dict[str, Metric]
    per_class: dict[str, float]
    confusions: dict[str, list[str]]
    held_out: HeldOutInfo


def digest_of(members: Iterable[tuple[str, bool, str, str]]) -> str:
    """SHA-256 of what decides the predictions of models that guess together: for each the digest
    of its weights, whether its configuration has flip TTA, further TTA, and precision.
    """
    parts = [
        f"{weights_sha256} {flip_tta} {tta}" + ("" if precision == FP32 else f" {precision}")
        for weights_sha256, flip_tta, tta, precision in members
    ]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def evaluated_of(values: Mapping[str, Any], store: str, per_class: int) -> Evaluated:
    """A judgement's numbers, as `Judgement.to_json` has them.

    store: fingerprint of the store with the drawings.
    """
    # Earlier versions wrote one word for each.
    pairs = ((word, row["mistaken_for"]) for word, row in values["classes"].items())
    one_each = {word: [other] for word, other in pairs if other is not None}
    return Evaluated(
        metrics=_metrics(values),
        per_class={w: row["map_at_3"]["value"] for w, row in values["classes"].items()},
        confusions=values.get("confusions", one_each),
        held_out=HeldOutInfo(
            store_fingerprint=store,
            drawings=values["map_at_3"]["n"],
            per_class=per_class,
            recognized=_metrics(values["recognized"]),
            unrecognized=_metrics(values["unrecognized"]),
        ),
    )


def evaluated_in(values: Mapping[str, Any]) -> Evaluated:
    """The numbers in `evaluation.json`, which also says what was evaluated."""
    judged = values["evaluated"]
    return evaluated_of(values, judged["store_fingerprint"], int(judged["per_class"]))


def numbers_in(path: Path) -> Mapping[str, Any] | None:
    """The content of an `evaluation.json`; None if it is not there or no JSON object."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def fetch_evaluated(info: BundleInfo, uri: str, run_id: str) -> Evaluated | None:
    """What the evaluation in a run found about just the model of a bundle; None if there is none,
    or MLflow does not answer: a model without numbers guesses as well.
    """
    digest = digest_of((n.weights_sha256, n.flip_tta, PLAIN, FP32) for n in info.networks)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with brief_requests():
                path = fetch_file(uri, run_id, f"{FOLDER}/{EVALUATION_NAME}", Path(temporary))
        except (QuickdrawError, OSError):
            return None
        values = numbers_in(path)
    try:
        if values is None or values["evaluated"]["model_digest"] != digest:
            return None
        evaluated = evaluated_in(values)
        BundleInfo.model_validate(info.model_dump() | evaluated._asdict())
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError):
        return None  # what somebody else put there
    return evaluated


def _metrics(scores: Mapping[str, Any]) -> dict[str, Metric]:
    return {
        name: Metric(value=each["value"], low=each["low"], high=each["high"])
        for name, each in scores.items()
        if isinstance(each, dict) and each.keys() >= {"value", "low", "high"}
    }
