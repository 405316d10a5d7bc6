"""What a checkpoint says of itself: enough for anyone to compare two runs."""

from typing import Any

from quickdraw_core.inference.model import TrainedModel


def inspect_model(model: TrainedModel) -> dict[str, Any]:
    """Step, metrics, configuration, classes, origin, versions and digests, as plain values."""
    checkpoint, label_map = model.checkpoint, model.label_map
    return {
        "model": str(model.path) if model.path else "from MLflow",
        "weights": sum(p.numel() for p in model.network.parameters()),
        "weights_sha256": checkpoint.weights_sha256,
        "running_average": "ema" in checkpoint.states,
        "step": checkpoint.step,
        "finished": checkpoint.finished,
        "loader": checkpoint.states["loader"],
        "metrics": checkpoint.metrics,
        "best": checkpoint.validations["best"],
        "mlflow_run_id": checkpoint.mlflow_run_id,
        "store_fingerprint": checkpoint.store_fingerprint,
        "train_drawings": sum(checkpoint.train_counts),
        "label_map": label_map.to_json(),
        "versions": checkpoint.versions,
        "config": model.config.model_dump(mode="json"),
    }
