"""The best network as an MLflow model: seen in the UI's Models tab, loaded without our code.

It is written as a graph of `torch.export` (`model.pt2`), not as a pickle: MLflow loads it with
pickles disallowed, which is its default. The folder `RUN/model/` is whole before any server hears
of it, so that one that is away gets it later; it can be served from there, too.
"""

import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quickdraw_core.errors import TrackingError, first_line
from quickdraw_core.labels import LabelMap
from quickdraw_core.tracking.journal import JOURNAL_NAME, Record, append, follow
from quickdraw_core.tracking.runs import brief_requests

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from torch import nn

MODEL_FOLDER = "model"
MODEL_NAME = "quickdraw"
_KEY_TAG = "quickdraw.model_key"
_MLMODEL = "MLmodel"

Example = npt.NDArray[Any]


def log_model(
    run_dir: Path,
    network: "nn.Module",
    example: Example,
    *,
    key: str,
    step: int,
    label_map: LabelMap,
    config: Mapping[str, object],
    metrics_prefix: str = "validation/",
) -> Path:
    """Writes `RUN/model/` and a record that has it sent; a second call for a `key` does nothing.

    network: takes a batch like `example`, gives logits [N, K]; it is left as it was.
    example: uint8 or float32 [2 or more, C, S, S]; the signature is [-1, C, S, S] → [-1, K].
    key: which weights (the SHA-256 of a checkpoint). step: where they were taken; the journal's
    metrics of that step that begin with `metrics_prefix` are shown with the model.
    label_map and config travel as `extra_files/labels.json` and `extra_files/config.json`.

    Raises `TrackingError` where the network cannot be exported for batches of any size.
    """
    folder = run_dir / MODEL_FOLDER
    records, _ = follow(run_dir / JOURNAL_NAME, 0)
    if folder.is_dir() and any(record.get("key") == key for record in records):
        return folder
    aside = run_dir / f".{MODEL_FOLDER}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    files = {"labels.json": label_map.to_json(), "config.json": dict(config)}
    metadata = {"key": key, "step": step, "label_map_sha256": label_map.sha256}
    try:
        _save(aside, network, example, files, metadata)
        _check_batches(aside, network, example)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"the network cannot be written as an MLflow model: {first_line(error)}; the "
            "checkpoint is kept"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    points = {
        name: [value, record["time_ms"]]
        for record in records
        if record.get("step") == step and "metrics" in record
        for name, value in record["metrics"].items()
        if name.startswith(metrics_prefix)
    }
    append(
        run_dir,
        {
            "model": str(folder),
            "key": key,
            "step": step,
            "points": points,
            "label_map_sha256": label_map.sha256,
        },
    )
    return folder


def warm_up(network: "nn.Module", example: Example) -> Iterator[None]:
    """Does beforehand, piece by piece, what the first `log_model` of a process takes seconds for.

    network, example: as `log_model` takes them. Whoever has no more time takes no further piece.
    """
    import mlflow.pyfunc
    import mlflow.pytorch
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    yield
    # MLflow looks through all packages that are installed, and keeps what it found.
    warn_dependency_requirement_mismatches([f"mlflow=={mlflow.__version__}"])
    yield
    import torch._dynamo

    yield
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.export(network, (torch.from_numpy(example),))


def _save(
    folder: Path,
    network: "nn.Module",
    example: Example,
    files: Mapping[str, object],
    metadata: Mapping[str, object],
) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    example = example[:2]
    if len(example) < 2:
        raise TrackingError(f"an example of {len(example)} rows: a model takes 2 to be exported")
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.from_numpy(example)).numpy()
        signature = ModelSignature(
            Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
            Schema([TensorSpec(logits.dtype, (-1, *logits.shape[1:]))]),
        )
        with (
            tempfile.TemporaryDirectory() as temporary,
            warnings.catch_warnings(),
            redirect_stderr(io.StringIO()),  # torch prints the graph of one it cannot export
        ):
            # torch: "No complete tensor found in the group", of every channels_last weight.
            warnings.simplefilter("ignore")
            extra = []
            for name, value in files.items():
                path = Path(temporary) / name
                path.write_text(json.dumps(value, ensure_ascii=False, default=str) + "\n", "utf-8")
                extra.append(str(path))
            mlflow.pytorch.save_model(
                network,
                str(folder),
                signature=signature,
                input_example=example,
                serialization_format="pt2",
                metadata=dict(metadata),
                extra_files=extra,
                # Inferring these would load the model in a process of its own, for ten seconds.
                pip_requirements=[
                    f"mlflow=={mlflow.__version__}",
                    f"torch=={torch.__version__.split('+')[0]}",
                    f"numpy=={np.__version__}",
                ],
            )
    finally:
        network.train(was_training)


def _check_batches(folder: Path, network: "nn.Module", example: Example) -> None:
    """Makes sure that the exported graph takes batches of other sizes than the example's."""
    import torch

    exported = torch.export.load(folder / "data" / "model.pt2").module()
    was_training = network.training
    network.eval()
    try:
        for size in (1, 3):
            batch = torch.from_numpy(np.concatenate([example[:2]] * 2)[:size])
            with torch.no_grad():
                same = torch.allclose(exported(batch), network(batch), rtol=1e-3, atol=1e-3)
            if not same:
                raise TrackingError(f"the exported network gives other logits for {size} images")
    finally:
        network.train(was_training)


def deliver_model(mlflow: "MlflowClient", run_id: str, record: Record) -> None:
    """Makes the logged model of a record, or finishes one that was begun; then links it.

    A folder that is gone was replaced by a later model, and is left out.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    folder = Path(record["model"])
    if not (folder / _MLMODEL).is_file() or _metadata_key(folder) != record["key"]:
        return
    run = mlflow.get_run(run_id)
    model = find_logged_model(mlflow, run.info.experiment_id, run_id, record["key"])
    if model is None:
        model = _make(mlflow, run.info.experiment_id, run_id, record)
    if str(model.status) != "READY":
        _upload(mlflow, model, run_id, folder)
    outputs = run.outputs.model_outputs if run.outputs else []
    if all(output.model_id != model.model_id for output in outputs):
        mlflow.log_outputs(run_id, [LoggedModelOutput(model.model_id, record["step"])])
    # The run has these points: with the same time and value they stand in its curves once.
    points = [
        Metric(name, value, time_ms, record["step"], model_id=model.model_id)
        for name, (value, time_ms) in record["points"].items()
    ]
    if points:
        mlflow.log_batch(run_id, metrics=points)


def find_logged_model(
    mlflow: "MlflowClient", experiment_id: str, run_id: str, key: str
) -> "LoggedModel | None":
    """The run's model that was logged under a key (the digest of its weights), if it is there."""
    models = mlflow.search_logged_models(
        [experiment_id], filter_string=f"source_run_id = '{run_id}'"
    )
    return next((model for model in models if model.tags.get(_KEY_TAG) == key), None)


def _make(
    mlflow: "MlflowClient", experiment_id: str, run_id: str, record: Record
) -> "LoggedModel":
    with brief_requests():
        return mlflow.create_logged_model(
            experiment_id,
            name=MODEL_NAME,
            source_run_id=run_id,
            tags={_KEY_TAG: record["key"], "label_map_sha256": record["label_map_sha256"]},
            params={"step": str(record["step"])},
            model_type="classifier",
        )


def _upload(mlflow: "MlflowClient", model: "LoggedModel", run_id: str, folder: Path) -> None:
    from mlflow.models import Model

    mlflow.log_model_artifacts(model.model_id, str(folder))
    described = Model.load(str(folder))
    described.run_id, described.model_id = run_id, model.model_id
    described.model_uuid, described.artifact_path = model.model_id, model.artifact_location
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / _MLMODEL
        described.save(str(path))
        mlflow.log_model_artifact(model.model_id, str(path))
    mlflow.finalize_logged_model(model.model_id, "READY")


def _metadata_key(folder: Path) -> object:
    from mlflow.models import Model

    return (Model.load(str(folder)).metadata or {}).get("key")
