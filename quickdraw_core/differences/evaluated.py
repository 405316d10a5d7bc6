"""The training behind an evaluation's folder, found by what the evaluation recorded."""

from collections.abc import Mapping
from pathlib import Path

from quickdraw_core.differences.recorded import Recorded, recorded_of
from quickdraw_core.errors import CheckpointError, TrackingError
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.inference.options import UNKNOWN
from quickdraw_core.inference.references import load_model
from quickdraw_core.stage import Opened
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.tracking.address import NO_TRACKING, resolve_tracking_uri
from quickdraw_core.training.run_folder import RunFolder


def recorded_of_evaluation(
    name: str,
    reference: str,
    facts: Mapping[str, str],
    tracking_uri: str | None,
    judged_on: Manifest,
    opened: Opened,
) -> Recorded:
    """What is recorded of the training of what an evaluation judged.

    reference: the evaluation's folder, or the predictions in it. facts: as `predictions.parquet`
    has them. Others as `recorded_of`. Of an ensemble the members' names are all; of an evaluation
    whose checkpoint is gone, nothing.
    """
    members = facts.get("step", "").split(", ")
    if len(members) > 1:
        return Recorded(name, members=facts.get("model", name).split(" (")[0].split(" + "))
    problem = None
    try:
        model = _model(Path(reference), facts, tracking_uri, opened)
    except (CheckpointError, TrackingError) as error:
        model, problem = None, str(error)
    if model is None:
        return Recorded(name, problem=problem)
    recorded = recorded_of(name, model, tracking_uri, judged_on)
    judged = {
        **recorded.groups["model"],
        "mean of checkpoints": int(facts.get("average", "1")),
        "tta": facts.get("tta", UNKNOWN),
        "precision": facts.get("precision", UNKNOWN),
    }
    is_mean = judged["mean of checkpoints"] > 1
    return Recorded(
        name,
        {**recorded.groups, "model": judged},
        "" if is_mean else recorded.weights,
        recorded.run,
        problem=recorded.problem,
    )


def _model(
    reference: Path, facts: Mapping[str, str], tracking_uri: str | None, opened: Opened
) -> TrainedModel | None:
    """The model of the step that was judged; None if it is not found."""
    folder = reference if reference.is_dir() else reference.parent
    run_dir, run_id = folder.parent, facts.get("mlflow_run_id", "none")
    step = int(facts.get("step", "0").replace(",", "") or 0)
    if RunFolder.is_there(run_dir):
        checkpoint = run_dir / "checkpoints" / f"step-{step:08d}.pt"
        return load_model(str(checkpoint), opened=opened) if checkpoint.is_file() else None
    if run_id == "none" or resolve_tracking_uri(tracking_uri) == NO_TRACKING:
        return None
    model = load_model(run_id, tracking_uri, opened=opened)
    return model if model.checkpoint.step == step else None
