"""What is said of an evaluation beside its numbers: of what it is, and how that was trained."""

from quickdraw_core.diagnosis.curves import Curves, curve_of, ended_diverged, read_curves
from quickdraw_core.errors import TrackingError
from quickdraw_core.evaluation.config import EvaluateConfig
from quickdraw_core.inference.ensemble import Ensemble
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.runs import fetch_curves


def facts_of(config: EvaluateConfig, models: Ensemble, store_fingerprint: str) -> dict[str, str]:
    """Of what and on what: enough to tell whether two evaluations can be compared."""
    members = models.members
    kinds = {
        f"{m.config.model.name}, {m.image.side_px} px, {m.image.encoding} encoding"
        for m in members
    }
    return {
        "model": models.name,
        "model_digest": models.digest,
        "architecture": ", ".join(sorted(kinds)),
        "step": ", ".join(f"{m.checkpoint.step:,}" for m in members),
        "store_fingerprint": store_fingerprint,
        "trained_on": ", ".join(sorted({m.checkpoint.store_fingerprint for m in members})),
        "label_map_sha256": models.label_map.sha256,
        "per_class": str(config.per_class),
        "average": str(config.average),
        "tta": config.tta,
        "precision": models.precision,
        "seed": str(config.seed),
        "mlflow_run_id": members[0].checkpoint.mlflow_run_id or "none",
    }


def curves_of(models: Ensemble, uri: str) -> tuple[Curves, str | None]:
    """The training's curves, from the run's folder, else from MLflow; none of several models.
    And why there are none, where there should be: the report does without.
    """
    member = models.members[0]
    if len(models.members) > 1:
        return {}, None
    if member.run_dir is not None:
        return read_curves(member.run_dir), None
    run_id = member.checkpoint.mlflow_run_id
    if uri == NO_TRACKING or not run_id:
        return {}, None
    try:
        found = fetch_curves(uri, run_id)
    except TrackingError as error:
        return {}, str(error)
    return {name: curve_of(zip(*points, strict=True)) for name, points in found.items()}, None


def has_diverged(models: Ensemble) -> bool:
    """Whether the training of a model, if it is a single one, ended on values not finite."""
    run_dir = models.members[0].run_dir
    return len(models.members) == 1 and run_dir is not None and ended_diverged(run_dir)
