"""The best network as an MLflow model: it takes drawings and pictures, and answers with words.

A pyfunc model whose data is a bundle (`serving/bundle.py`), read by a module of this project
(`serving/mlflow_model.py`): without a pickle, as MLflow by default loads none. It is served by
`mlflow models serve --env-manager local` wherever this project is installed with its extra
`serve`; torch is not needed there.

    data/bundle/      the bundle
    MLmodel           signature, loader, and of which weights of which run it is
    requirements.txt  versions of what reads it

The folder `RUN/model/` is whole before any server hears of it, so that one that is away gets it
later; it can be served from there, too.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from quickdraw_core.credentials import tracking_address
from quickdraw_core.errors import QuickdrawError, TrackingError, first_line
from quickdraw_core.labels import GUESSES
from quickdraw_core.system.quiet import quiet_thread
from quickdraw_core.tracking.address import artifact_folder
from quickdraw_core.tracking.journal import JOURNAL_NAME, Record, append, follow
from quickdraw_core.tracking.problems import mlflow_errors
from quickdraw_core.tracking.runs import brief_requests, quiet_mlflow, reader

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

MODEL_FOLDER = "model"
MODEL_NAME = "quickdraw"
BUNDLE_FOLDER = PurePosixPath("data/bundle")
"""Of a model's files, those of the bundle."""
LOADER = "quickdraw_core.serving.mlflow_model"

DRAWING, PICTURE = "drawing", "picture"
"""Columns that a model reads: strokes, and a file of a picture in base64."""
WORDS = "guesses"
"""The column that it gives, and its one parameter: how many words."""
EXAMPLE = [
    [[24, 230, 230, 24, 24], [110, 110, 250, 250, 110]],
    [[8, 127, 246], [112, 6, 112]],
    [[105, 105, 150, 150], [249, 180, 180, 249]],
]
"""A drawing as people send it: a house."""

_KEY_TAG = "quickdraw.model_key"
_MLMODEL = "MLmodel"
_READ_WITH = (
    *("numpy", "numba", "onnxruntime", "orjson", "pandas", "pillow", "pydantic", "pyarrow"),
    "scikit-image",
)
"""Packages by which a model is read. This project is not on PyPI, and a name that somebody else
may take there must not be installed unseen: it is not among them."""


def log_model(
    run_dir: Path,
    write_bundle: Callable[[Path], None],
    *,
    key: str,
    step: int,
    label_map_sha256: str,
    metrics_prefix: str = "validation/",
) -> Path:
    """Writes `RUN/model/` and a record that has it sent; a second call for a `key` does nothing.

    write_bundle: writes the bundle to a folder, which is not there yet.
    key: which weights (the SHA-256 of a checkpoint). step: where they were taken; the journal's
    metrics of that step that begin with `metrics_prefix` are shown with the model.

    Raises `TrackingError` if the model cannot be written.
    """
    folder = run_dir / MODEL_FOLDER
    records, _ = follow(run_dir / JOURNAL_NAME, 0)
    if folder.is_dir() and any(record.get("key") == key for record in records):
        return folder
    aside = run_dir / f".{MODEL_FOLDER}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    metadata = {"key": key, "step": step, "label_map_sha256": label_map_sha256}
    try:
        with tempfile.TemporaryDirectory(dir=run_dir, prefix=f".{MODEL_FOLDER}.") as temporary:
            bundle = Path(temporary) / BUNDLE_FOLDER.name
            write_bundle(bundle)
            _save(aside, bundle, metadata)
    except QuickdrawError as error:
        raise TrackingError(f"no model for MLflow was written: {error}") from error
    except Exception as error:
        raise TrackingError(
            f"no model for MLflow was written: {first_line(error)}; the checkpoint is kept"
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
            "label_map_sha256": label_map_sha256,
        },
    )
    return folder


def warm_up() -> Iterator[None]:
    """Does beforehand, piece by piece, what the first `log_model` of a process takes seconds for.

    Whoever has no more time takes no further piece.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    yield
    # MLflow looks through all packages that are installed, and keeps what it found.
    warn_dependency_requirement_mismatches([f"mlflow=={mlflow.__version__}"])
    yield


def refusal(sentence: str) -> Exception:
    """An error that MLflow's server of models answers with 400 and the sentence."""
    from mlflow.exceptions import MlflowException

    error: Exception = MlflowException.invalid_parameter_value(sentence)
    return error


def _save(folder: Path, bundle: Path, metadata: dict[str, object]) -> None:
    quiet_mlflow()
    with (
        warnings.catch_warnings(),
        quiet_thread(),  # "Validating input example", and the like
    ):
        warnings.simplefilter("ignore")  # it warns of its own types when it is loaded
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(bundle),
            signature=_signature(),
            input_example=_example(),
            metadata=metadata,
            # Inferring these would load the model in a process of its own, for ten seconds.
            pip_requirements=[f"mlflow=={mlflow.__version__}", *map(_requirement, _READ_WITH)],
        )


def _signature() -> "ModelSignature":
    """Columns of a drawing and a picture, of which a row has one; words and probabilities."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array, Object, Property

    guess = [Property("word", DataType.string), Property("probability", DataType.double)]
    return ModelSignature(
        Schema(
            [
                # Not lists of numbers: MLflow turns no integers into floats in lists, and a
                # drawing may have either.
                ColSpec(AnyType(), DRAWING, required=False),
                ColSpec(DataType.string, PICTURE, required=False),
            ]
        ),
        Schema([ColSpec(Array(Object(guess)), WORDS)]),
        ParamSchema([ParamSpec(WORDS, DataType.long, GUESSES)]),
    )


def _example() -> Any:
    import pandas as pd

    return pd.DataFrame({DRAWING: [EXAMPLE]})


def _requirement(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:  # trained where pictures, say, are not read
        return package


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


def fetch_bundle(uri: str, run_id: str, key: str, folder: Path) -> Path | None:
    """Brings the bundle of a run's model that was logged under a key into `folder`.

    None if the run has no such model, or one of an earlier version of this program, which holds no
    bundle. Raises `TrackingError` if MLflow is away, or does not give what it has.
    """
    mlflow = reader(uri)
    with mlflow_errors(uri):
        with brief_requests():
            experiment_id = mlflow.get_run(run_id).info.experiment_id
            model = find_logged_model(mlflow, experiment_id, run_id, key)
        if model is None or str(model.status) != "READY":
            return None
        files = artifact_folder(uri, str(model.artifact_location))
        if files is not None:
            there = files / BUNDLE_FOLDER
            target = folder / BUNDLE_FOLDER.name
            return Path(shutil.copytree(there, target)) if there.is_dir() else None
        if not mlflow.list_logged_model_artifacts(model.model_id, str(BUNDLE_FOLDER)):
            return None
        from mlflow.artifacts import download_artifacts

        location = f"{model.artifact_location}/{BUNDLE_FOLDER}"
        return Path(
            download_artifacts(location, dst_path=str(folder), tracking_uri=tracking_address(uri))
        )


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
