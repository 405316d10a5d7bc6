"""What is recorded of a model's training: options, code, data, environment, cost.

In: a `TrainedModel`, whatever it was named by. Most stands in its checkpoint; the rest in its
run's folder, or in the tags of its MLflow run. Older runs recorded less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quickdraw_core.diagnosis.cost import Cost, cost_of_tags, read_cost
from quickdraw_core.errors import CheckpointError, TrackingError
from quickdraw_core.inference.model import TrainedModel
from quickdraw_core.launching.provenance import data_of
from quickdraw_core.progress import duration_text
from quickdraw_core.store.manifest import Manifest
from quickdraw_core.tracking.address import NO_TRACKING
from quickdraw_core.tracking.run_record import RunRecord, tracking_uri_of_run
from quickdraw_core.tracking.runs import fetch_tags
from quickdraw_core.training.plan import steps_of
from quickdraw_core.training.run_folder import RunFolder

GROUPS = ("model", "options", "code", "data", "environment", "cost")
_ELSEWHERE = {
    *("store", "run_dir", "fresh", "tracking.uri", "hardware.ranks"),
    *("hosts.nodes", "hosts.node_rank", "hosts.rendezvous", "hosts.wait_seconds"),
    *("hosts.min_nodes", "hosts.dask", "hosts.require", "hosts.tls"),
    *("select.exclude", "select.also"),  # their digests say what they are
    *("hosts.tls.ca_file", "hosts.tls.certificate", "hosts.tls.key"),
}
"""Options that say where and not what, or that `environment` has."""
_MAY_BE_ABSENT = ("augment", "distill")
_PROGRAM = "quickdraw-workflow"
PLANNED_STEPS = "planned steps"
"""Of the whole training; the option `max_minutes` does not say it."""
_WHOLE_CODE = "training code"

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """What is recorded of one side of a comparison.

    groups: by the names of GROUPS, name → plain value; what is not recorded is missing. weights,
    run: which weights, and which training they are of; empty if not known. members: of an
    ensemble, which has no groups. problem: why less is known than could be, or None.
    """

    name: str
    groups: Mapping[str, Values] = field(default_factory=dict)
    weights: str = ""
    run: str = ""
    members: Sequence[str] = ()
    problem: str | None = None


def recorded_of(
    name: str, model: TrainedModel, tracking_uri: str | None, judged_on: Manifest
) -> Recorded:
    """What is recorded of a model's training.

    name: of the model in the comparison. judged_on: manifest of the store that it is judged on,
    which says what a run of before recorded of its data if that is the store of its training.
    """
    checkpoint, provenance = model.checkpoint, model.checkpoint.provenance
    tags, cost, problem = _of_run(model, tracking_uri)
    groups: dict[str, Values] = {
        "model": {
            "step": checkpoint.step,
            "mean of checkpoints": model.average,
            "tta": model.tta,
            "precision": model.precision,
        },
        "options": options_of(model),
        "code": _code_of(model, tags),
        "data": provenance.get("data") or _data_of(checkpoint.store_fingerprint, judged_on),
        "environment": _environment_of(model, tags),
        "cost": cost_texts(cost),
    }
    run = checkpoint.mlflow_run_id or (str(model.run_dir) if model.run_dir else "")
    return Recorded(name, groups, checkpoint.weights_sha256, run, problem=problem)


def options_of(model: TrainedModel) -> dict[str, Any]:
    """The options of a training, a value each, by the keys that `--set` takes. A group that may be
    absent is one value. The planned steps are beside them, if they are known.
    """
    options: dict[str, Any] = {}
    # Of teachers their digests say what they are.
    config = model.config.model_dump(mode="json", exclude={"distill": {"teachers"}})
    for key, value in config.items():
        grouped = isinstance(value, dict) and key not in _MAY_BE_ABSENT
        options |= {f"{key}.{k}": v for k, v in value.items()} if grouped else {key: value}
    options = {key: value for key, value in options.items() if key not in _ELSEWHERE}
    planned = _planned_steps(model)
    return options if planned is None else {**options, PLANNED_STEPS: planned}


def _planned_steps(model: TrainedModel) -> int | None:
    """Of the whole training: as its run recorded, else as its options say."""
    checkpoint, config = model.checkpoint, model.config
    recorded = checkpoint.provenance.get("plan", {}).get("steps")
    if recorded is None and model.run_dir is not None:
        recorded = RunFolder.read(model.run_dir).steps
    if recorded is not None:
        return int(recorded)
    return steps_of(config, sum(checkpoint.train_counts) // config.global_batch_size)


def cost_texts(cost: Cost) -> dict[str, str]:
    """A cost as people read it: only what is known."""
    texts = {}
    if cost.seconds is not None:
        texts["time"] = duration_text(cost.seconds)
    if cost.images_per_second is not None:
        texts["images/s"] = f"{cost.images_per_second:,.0f}"
    if cost.energy_joules is not None:
        texts["energy"] = f"{cost.energy_joules / 3_600:,.1f} Wh"
    return texts


def _of_run(
    model: TrainedModel, tracking_uri: str | None
) -> tuple[Mapping[str, str], Cost, str | None]:
    """Tags and cost of a model's run, from its folder or MLflow, and why MLflow did not answer."""
    if model.run_dir is not None:
        record = RunRecord.read(model.run_dir)
        return record.tags if record is not None else {}, read_cost(model.run_dir), None
    uri, run_id = tracking_uri_of_run(tracking_uri, None), model.checkpoint.mlflow_run_id
    if uri == NO_TRACKING or not run_id:
        return {}, Cost(), None
    try:
        tags = fetch_tags(uri, run_id)
    except (CheckpointError, TrackingError) as error:
        return {}, Cost(), str(error)
    return tags, cost_of_tags(tags), None


def _code_of(model: TrainedModel, tags: Mapping[str, str]) -> dict[str, Any]:
    checkpoint = model.checkpoint
    code: dict[str, Any] = {}
    if _PROGRAM in checkpoint.versions:
        code["version"] = checkpoint.versions[_PROGRAM]
    whole = tags.get("code_version")
    if model.run_dir is not None:
        whole = RunFolder.read(model.run_dir).code or whole
    if whole:
        code[_WHOLE_CODE] = whole
    if tags.get("git_commit"):
        code["git commit"] = tags["git_commit"]
    return code | checkpoint.provenance.get("code", {})


def _data_of(fingerprint: str, judged_on: Manifest) -> dict[str, Any]:
    return data_of(judged_on) if judged_on.fingerprint == fingerprint else {"store": fingerprint}


def _environment_of(model: TrainedModel, tags: Mapping[str, str]) -> dict[str, Any]:
    versions = {k: v for k, v in model.checkpoint.versions.items() if k != _PROGRAM}
    environment: dict[str, Any] = {**versions, "ranks": model.config.world_size}
    if tags.get("device"):
        environment["device"] = tags["device"]
    return environment | model.checkpoint.provenance.get("environment", {})
