"""Store → trained model. The task starts torch's launcher as a sub-process and follows it."""

from contextlib import suppress

from prefect import flow
from prefect.runtime import flow_run

from flows.artifacts import add_mlflow_link, add_page
from flows.gpus import gpu_slots
from flows.stages import StageTask, opened_here
from quickdraw_core.errors import StoreError
from quickdraw_core.launching.result import TrainResult
from quickdraw_core.launching.summary import training_markdown
from quickdraw_core.launching.train import TRAIN_STAGE
from quickdraw_core.recipes import RecipedConfig
from quickdraw_core.storage.location import Location
from quickdraw_core.store.store import open_store
from quickdraw_core.tracking.runs import run_page
from quickdraw_core.training.config import TrainConfig


def _show(result: TrainResult) -> None:
    add_page("training", training_markdown, result)
    add_mlflow_link("training-mlflow-run", run_page(result.tracking_uri, result.mlflow_run_id))


train_stage = StageTask(
    TRAIN_STAGE,
    "Trains, or continues from the last checkpoint, on GPUs that no other run uses.",
    show=_show,
    slots=lambda config: gpu_slots(config.hardware.ranks, config.hardware.device),
)


def name_of(config: TrainConfig, store: Location | None = None) -> str:
    """What is trained, for lists of runs: `resnet18 340 classes 2 ranks`."""
    classes = ""
    with suppress(StoreError, OSError):
        label_map = open_store(store or config.store, opened_here()).label_map
        classes = f" {len(label_map)} classes"
    ranks = config.world_size
    return f"{config.model.name}{classes} {ranks} rank{'s' if ranks > 1 else ''}"


def _run_name() -> str:
    config = RecipedConfig.model_validate(flow_run.parameters["config"])
    return f"train {name_of(config.whole())}"


@flow(name="train", flow_run_name=_run_name)
def train(config: RecipedConfig) -> TrainResult:
    """Trains a recogniser on a store."""
    return train_stage(config.whole())
