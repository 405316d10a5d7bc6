"""What a checkpoint says of itself: enough for anyone to compare two runs."""

import json
from collections.abc import Mapping
from typing import Any

from quickdraw_core.assignments import flattened
from quickdraw_core.errors import first_few
from quickdraw_core.inference.model import TrainedModel


def inspect_model(model: TrainedModel) -> dict[str, Any]:
    """Step, metrics, configuration, classes, origin, versions and digests, as plain summary."""
    checkpoint, label_map = model.checkpoint, model.label_map
    return {
        "model": str(model.path) if model.path else "from MLflow",
        "weights": sum(p.numel() for p in model.network.parameters()),
        "weights_sha256": checkpoint.weights_sha256,
        "running_average": "ema" in checkpoint.states,
        "logit_adjustment": checkpoint.logit_adjustment,
        "step": checkpoint.step,
        "finished": checkpoint.finished,
        "loader": checkpoint.states["loader"],
        "metrics": checkpoint.metrics,
        "best": checkpoint.validations["best"],
        "mlflow_run_id": checkpoint.mlflow_run_id,
        "store_fingerprint": checkpoint.store_fingerprint,
        "also_store_fingerprint": model.config.select.also_fingerprint,
        "train_drawings": sum(checkpoint.train_counts),
        "label_map": label_map.to_json(),
        "versions": checkpoint.versions,
        "config": model.config.model_dump(mode="json"),
    }


def inspect_facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """The same in some lines; the configuration as `--set` takes it."""
    loader, words = summary["loader"], summary["label_map"]["words"]
    done = "finished" if summary["finished"] else "not finished"
    average = ", their running average" if summary["running_average"] else ""
    tau = summary["logit_adjustment"]
    adjusted = f", logits less {tau:g} ln(share of the class in training)" if tau else ""
    also = summary["also_store_fingerprint"]
    and_also = "" if also is None else f" and store {also}"
    facts = {
        "model": summary["model"],
        "step": f"{summary['step']:,}, epoch {loader['epoch']} step {loader['step']:,} ({done})",
        "validation": ", ".join(f"{key} {value:.4f}" for key, value in summary["metrics"].items()),
        "weights": f"{summary['weights']:,}{average}{adjusted}",
        "sha256": summary["weights_sha256"],
        "classes": f"{len(words)}: {first_few(words)}; sha256 {summary['label_map']['sha256']}",
        "trained on": f"{summary['train_drawings']:,} drawings, "
        f"store {summary['store_fingerprint']}{and_also}",
        "MLflow run": summary["mlflow_run_id"] or "none",
        "versions": ", ".join(f"{key} {value}" for key, value in summary["versions"].items()),
    }
    flat = flattened(summary["config"])
    return facts | {"config": " ".join(f"{k}={json.dumps(v)}" for k, v in flat.items())}
