"""What a checkpoint says of itself: enough for anyone to compare two runs."""

import json
from collections.abc import Mapping
from typing import Any

from quickdraw_core.assignments import flattened
from quickdraw_core.errors import first_few
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


def inspect_facts(found: Mapping[str, Any]) -> dict[str, str]:
    """The same in some lines; the configuration as `--set` takes it."""
    loader, words = found["loader"], found["label_map"]["words"]
    done = "finished" if found["finished"] else "not finished"
    average = ", their running average" if found["running_average"] else ""
    facts = {
        "model": found["model"],
        "step": f"{found['step']:,}, epoch {loader['epoch']} step {loader['step']:,} ({done})",
        "validation": ", ".join(f"{key} {value:.4f}" for key, value in found["metrics"].items()),
        "weights": f"{found['weights']:,}{average}",
        "sha256": found["weights_sha256"],
        "classes": f"{len(words)}: {first_few(words)}; sha256 {found['label_map']['sha256']}",
        "trained on": f"{found['train_drawings']:,} drawings, store {found['store_fingerprint']}",
        "MLflow run": found["mlflow_run_id"] or "none",
        "versions": ", ".join(f"{key} {value}" for key, value in found["versions"].items()),
    }
    flat = flattened(found["config"])
    return facts | {"config": " ".join(f"{k}={json.dumps(v)}" for k, v in flat.items())}
