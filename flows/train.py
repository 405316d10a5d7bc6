"""Store → trained model. The task starts torch's launcher as a sub-process and follows it."""

from prefect import flow, task

from flows.policy import fresh_once, worth_retrying
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.launch import TrainResult, run_file
from quickdraw_core.training.launch import train as run_training


@task(name="train", retries=1, retry_delay_seconds=10, retry_condition_fn=worth_retrying)
def train_stage(config: TrainConfig) -> TrainResult:
    """Trains, or continues from the last checkpoint."""
    if config.fresh:
        config = fresh_once(config, run_file(config))
    return run_training(config)


@flow(name="train", flow_run_name="train {config.model} {config.ranks} ranks")
def train(config: TrainConfig) -> TrainResult:
    """Trains a recogniser on a store."""
    return train_stage(config)
