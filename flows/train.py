"""Store → trained model. The task starts torch's launcher as a sub-process and follows it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.alerts.events import alerting
from flows.artifacts import add_artifact, add_mlflow_link, add_page, reported
from flows.gpus import gpu_slots, slots_taken
from flows.stages import StageTask, opened_here
from quickdraw_core.cluster.config import GPU
from quickdraw_core.errors import StoreError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.launching.estimate import Estimate
from quickdraw_core.launching.open_run import run_path
from quickdraw_core.launching.result import TrainResult
from quickdraw_core.launching.summary import estimate_markdown, training_markdown
from quickdraw_core.launching.train import TRAIN_STAGE, PreparedTraining
from quickdraw_core.recipes import RecipedConfig
from quickdraw_core.stage import Prepared
from quickdraw_core.storage.location import Location
from quickdraw_core.store.store import open_store
from quickdraw_core.tracking.run_record import RunRecord
from quickdraw_core.tracking.runs import run_page
from quickdraw_core.training.config import TrainConfig


def _show(result: TrainResult) -> None:
    add_page("training", training_markdown, result)
    add_mlflow_link("training-mlflow-run", run_page(result.tracking_uri, result.mlflow_run_id))


def _announce(prepared: Prepared[TrainResult]) -> None:
    """Shows what the training will take before it starts, as far as that is known unmeasured."""
    assert isinstance(prepared, PreparedTraining)
    add_artifact(lambda: _show_plan(prepared.estimate(None)))


def _slots_of(config: TrainConfig) -> AbstractContextManager[None]:
    """A slot for each rank on a GPU: of this host, or of all workers of a cluster, if that is what
    is asked for by name.
    """
    hardware, hosts = config.hardware, config.hosts
    if hosts.dask is None:
        return gpu_slots(hardware.ranks, hardware.device)
    is_on_gpus = hardware.device == "cuda" or GPU in hosts.resources
    return slots_taken(config.world_size) if is_on_gpus else nullcontext()


train_stage = StageTask(
    TRAIN_STAGE,
    "Trains, or continues from the last checkpoint, on GPUs that no other run uses.",
    show=_show,
    announce=_announce,
    slots=_slots_of,
)


def name_of(config: TrainConfig, store: Location | None = None) -> str:
    """What is trained, for lists of runs: `resnet18 340 classes 2 ranks`."""
    classes = ""
    with suppress(StoreError, OSError):
        label_map = open_store(store or config.store, opened_here()).label_map
        classes = f" {len(label_map)} classes"
    ranks = config.world_size
    return f"{config.model.name}{classes} {ranks} rank{'s' if ranks > 1 else ''}"


def mlflow_page(parameters: Mapping[str, Any]) -> str | None:
    """The page of the MLflow run of a training, by the parameters of this flow or the pipeline;
    None if it has none yet.
    """
    config = RecipedConfig.model_validate(parameters.get("train") or parameters["config"]).whole()
    ingest = parameters.get("ingest")
    store = IngestConfig.model_validate(ingest).store if ingest else config.store
    record = RunRecord.read(run_path(config, open_store(store, opened_here())))
    return None if record is None else run_page(record.uri, record.run_id)


def _run_name() -> str:
    given = flow_run.parameters
    config = RecipedConfig.model_validate(given["config"])
    return f"{'plan' if given.get('plan') else 'train'} {name_of(config.whole())}"


@flow(
    name="train",
    flow_run_name=_run_name,
    on_failure=alerting(mlflow_page),
    on_crashed=alerting(mlflow_page),
)
def train(config: RecipedConfig, plan: bool = False) -> TrainResult | Estimate:
    """Trains a recogniser on a store. With `plan` it only says what that will take: steps,
    files, and by a probe of 21 steps memory, speed and time.
    """
    return _planned(config.whole()) if plan else train_stage(config.whole())


def _planned(config: TrainConfig) -> Estimate:
    with reported("train"):
        prepared = TRAIN_STAGE.prepared(config, opened_here())
        assert isinstance(prepared, PreparedTraining)
        with _slots_of(config):
            estimate = prepared.estimate()
        _show_plan(estimate)
    return estimate


def _show_plan(estimate: Estimate) -> None:
    add_page("training-plan", estimate_markdown, estimate)
