"""Store → trained model. The task starts torch's launcher as a sub-process and follows it."""

from contextlib import suppress

from prefect import flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from flows.gpus import gpu_slots
from flows.policy import fresh_once
from flows.stages import Stage, options_of
from flows.telling import show
from quickdraw_core.errors import StoreError
from quickdraw_core.store.location import Location
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.runs import run_page
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.launch import TrainResult, is_finished, run_file, run_path
from quickdraw_core.training.launch import train as run_training
from quickdraw_core.training.told import training_markdown


def _train(config: TrainConfig) -> TrainResult:
    """Trains, or continues from the last checkpoint, on GPUs that no other run uses."""
    if config.fresh:
        config = fresh_once(config, run_file(config))
    with gpu_slots(config.ranks, config.device):
        result = run_training(config)
    show(lambda: create_markdown_artifact(training_markdown(result), key="training"))
    page = run_page(result.tracking_uri, result.mlflow_run_id)
    if page is not None:
        show(lambda: create_link_artifact(page, "MLflow run", key="training-mlflow-run"))
    return result


def _inputs(config: TrainConfig) -> object:
    store = Store.open(config.store)
    return [run_path(config, store), store.manifest.fingerprint, options_of(config, "store")]


train_stage = Stage("train", _train, _inputs, is_finished)


def name_of(config: TrainConfig, store: Location | None = None) -> str:
    """What is trained, for lists of runs: `resnet18 340 classes 2 ranks`."""
    classes = ""
    with suppress(StoreError, OSError):
        classes = f" {len(Store.open(store or config.store).label_map)} classes"
    ranks = config.world_size
    return f"{config.model}{classes} {ranks} rank{'s' if ranks > 1 else ''}"


def _run_name() -> str:
    return f"train {name_of(TrainConfig.model_validate(flow_run.parameters['config']))}"


@flow(name="train", flow_run_name=_run_name)
def train(config: TrainConfig) -> TrainResult:
    """Trains a recogniser on a store."""
    return train_stage(config)
