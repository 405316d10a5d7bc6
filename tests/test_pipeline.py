"""The main job from end to end: the command, Prefect, Dask, two ranks, MLflow, all real."""

import csv
import json
import random
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from command_line import quickdraw
from session import prefect_api

from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.tracking.runs import client

CLASSES = 8
CHANCE = (1 + 1 / 2 + 1 / 3) / CLASSES


@dataclass(frozen=True)
class Finished:
    """A finished pipeline: its folder, its run's folder, its MLflow run id, what it printed on
    standard output and error.
    """

    folder: Path
    run_dir: Path
    run_id: str
    output: str
    progress: str

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"


def pipeline(
    source: Path, folder: Path, *more: object, prefect: bool = True
) -> subprocess.CompletedProcess[str]:
    done = quickdraw(
        "pipeline", source, "--classes-file", folder / "classes.txt", "--store", "store",
        "--nproc", 2, "--set", "train.epochs=6", "--set", "train.validation.every_epochs=1",
        "--set", "train.model=net", "--set", "train.image.side_px=24",
        "--set", "train.image.encoding=gray", *more, cwd=folder, prefect=prefect,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real drawings where they are, generated ones elsewhere."""
    try:
        return Path(request.getfixturevalue("shared_data")) / "train_simplified"
    except pytest.skip.Exception:
        folder = tmp_path_factory.mktemp("generated")
        words = ["sun", "house", "star", "fish", "envelope", "clock", "ladder", "umbrella"]
        generate_csvs(folder, words, 500, seed=2)
        return folder


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("pipeline")
    rows = {path.stem: path.read_bytes().count(b"\n") for path in source.glob("*.csv")}
    richest = sorted(word for word in rows if 500 < rows[word] < 800)[:CLASSES]
    words = richest if len(richest) == CLASSES else sorted(rows)
    (folder / "classes.txt").write_text("\n".join(words) + "\n")
    done = pipeline(source, folder)
    (run_dir,) = (folder / "runs").iterdir()
    run_id = tracked_run_id(run_dir)
    return Finished(folder, run_dir, run_id, done.stdout, done.stderr)


def test_the_model_is_well_above_chance_on_100_held_out_drawings_a_class(
    finished: Finished,
) -> None:
    result = json.loads((finished.run_dir / "evaluation" / "evaluation.json").read_text())
    score = result["map_at_3"]
    assert score["n"] == 100 * CLASSES
    assert all(row["map_at_3"]["n"] == 100 for row in result["classes"].values())
    assert score["low"] > 2.5 * CHANCE
    assert result["top_1"]["value"] <= score["value"] <= result["top_3"]["value"]


def test_it_prints_the_table_of_guesses_and_where_everything_is(finished: Finished) -> None:
    guesses = re.findall(r"^Guess: \[ *\S+\] \[ *\S+\] \[ *\S+\]  Expected \[ *\S+\]$",
                         finished.output, re.MULTILINE)  # fmt: skip
    assert len(guesses) == 64
    failed = finished.output.count("Guess failed!")
    share = f"{(64 - failed) / 64:.0%}"
    assert f"Total: 64 test drawings, {64 - failed} right, accuracy {share}" in finished.output
    assert f"report       {finished.run_dir / 'evaluation' / 'report.html'}" in finished.output
    assert f"MLflow run   {finished.run_id}" in finished.output
    assert re.search(r"MLflow UI    \S*mlflow ui\n", finished.output)
    assert "store        store (written)" in finished.output


def test_its_progress_is_lines_of_stages_and_validations(finished: Finished) -> None:
    lines = finished.progress.splitlines()
    for stage in ("ingest", "pack", "train", "evaluate"):
        (started,) = (n for n, line in enumerate(lines) if line.startswith(f"{stage}: started"))
        (ended,) = (n for n, line in enumerate(lines) if line.startswith(f"{stage}: ended after "))
        assert started < ended
    validation = (
        r"train: step ([\d,]+) of ([\d,]+): validation MAP@3 [01]\.\d{4}, loss \d+\.\d{4} "
        r"\(training \d+\.\d{4}\), [\d,]+ images/s, (?:\d+ min )?\d+ s left"
    )
    steps = [found.groups() for line in lines if (found := re.fullmatch(validation, line))]
    assert len(steps) == 6, finished.progress
    assert steps[-1][0] == steps[-1][1]
    assert all(line.isprintable() for line in lines)


def test_mlflow_has_the_curves_parameters_checkpoint_and_report(finished: Finished) -> None:
    mlflow = client(finished.tracking_uri)
    run = mlflow.get_run(finished.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.name"] == "net"
    assert run.data.params["augment.mirror_share"] == "0.5"
    store = Store.open(finished.folder / "store")
    assert run.data.tags["store_fingerprint"] == store.manifest.fingerprint
    assert run.data.tags["world_size"] == "2"
    for name in ("loss", "learning_rate", "images_per_second", "data_wait_share"):
        history = mlflow.get_metric_history(finished.run_id, f"train/{name}")
        steps = [point.step for point in history]
        assert len(steps) > 5
        assert steps == sorted(set(steps))
    assert len(mlflow.get_metric_history(finished.run_id, "validation/map_at_3")) == 6
    judged = json.loads((finished.run_dir / "evaluation" / "evaluation.json").read_text())
    assert run.data.metrics["test/map_at_3"] == pytest.approx(judged["map_at_3"]["value"])
    artifacts = {
        file.path
        for folder in ("checkpoints", "evaluation")
        for file in mlflow.list_artifacts(finished.run_id, folder)
    }
    assert artifacts == {
        "checkpoints/best.pt",
        "checkpoints/last.pt",
        "evaluation/classes.json",
        "evaluation/evaluation.json",
        "evaluation/figures",
        "evaluation/guesses.txt",
        "evaluation/partial_predictions.parquet",
        "evaluation/predictions.parquet",
        "evaluation/report.html",
    }


def test_prefect_recorded_the_flow_and_its_stages(finished: Finished) -> None:
    def recorded(kind: str, **where: object) -> list[dict[str, Any]]:
        answer = requests.post(f"{prefect_api()}/{kind}/filter", json=where, timeout=180)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    # Others use the same server, and some of theirs fail on purpose.
    here = {"tags": {"all_": [f"folder:{finished.folder}"]}}
    pipelines = {"name": {"any_": ["pipeline"]}}
    runs = recorded("flow_runs", flows=pipelines, flow_runs=here, sort="START_TIME_ASC")
    assert runs[0]["name"].startswith("pipeline ")
    assert {run["state"]["name"] for run in runs} == {"Completed"}
    tasks = recorded("task_runs", flow_runs={"id": {"any_": [runs[0]["id"]]}})
    assert {task["name"].split("-")[0] for task in tasks} == {
        "ingest",
        "pack",
        "train",
        "evaluate",
    }
    assert {task["state"]["name"] for task in tasks} == {"Completed"}


def test_the_same_again_finds_everything_done(finished: Finished, source: Path) -> None:
    output = pipeline(source, finished.folder).stdout
    assert "up to date, nothing to do" in output
    assert "finished before" in output
    mlflow = client(finished.tracking_uri)
    experiment = mlflow.get_experiment_by_name("quickdraw")
    assert experiment is not None
    assert len(mlflow.search_runs([experiment.experiment_id])) == 1


def planned(output: str) -> dict[str, str]:
    """What `--plan` says that each stage would do, and why."""
    found = re.findall(r"^ *(ingest|pack|train|evaluate) +(.+?) *$", output, re.MULTILINE)
    return {stage: " ".join(words.split()) for stage, words in found}


def test_a_plan_says_what_each_stage_would_do_and_does_nothing(
    finished: Finished, source: Path
) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in finished.folder.rglob("*")}

    before = files()
    plan = planned(pipeline(source, finished.folder, "--plan", prefect=False).stdout)
    assert {stage: why.split()[0] for stage, why in plan.items()} == dict.fromkeys(
        ("ingest", "pack", "train", "evaluate"), "reuse"
    )
    other = ("--plan", "--set", "train.seed=5")
    plan = planned(pipeline(source, finished.folder, *other, prefect=False).stdout)
    assert plan["train"].startswith("do anew no run of these options, data and code")
    assert plan["evaluate"].startswith("do anew follows train")
    assert plan["pack"].startswith("reuse")
    assert files() == before


def test_a_stage_is_done_anew_and_those_before_it_are_kept(
    finished: Finished, source: Path
) -> None:
    report, model = finished.run_dir / "evaluation" / "report.html", finished.run_dir / "run.json"
    before = report.stat().st_mtime_ns, model.stat().st_mtime_ns
    output = pipeline(source, finished.folder, "--from", "evaluate", prefect=False).stdout
    assert "finished before" in output
    assert report.stat().st_mtime_ns > before[0]
    assert model.stat().st_mtime_ns == before[1]


def test_evaluate_by_run_id_agrees_with_the_pipeline(finished: Finished, tmp_path: Path) -> None:
    done = quickdraw(
        "evaluate", finished.run_id, "--store", "store", "--report-dir", tmp_path,
        cwd=finished.folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again, first = (
        json.loads((folder / "evaluation.json").read_text())
        for folder in (tmp_path, finished.run_dir / "evaluation")
    )
    assert again["evaluated"].pop("model") == f"run {finished.run_id}"
    assert first["evaluated"].pop("model") == finished.run_dir.name
    assert again == first


def test_an_evaluation_that_mlflow_does_not_take_is_still_made_and_says_so(
    finished: Finished, tmp_path: Path
) -> None:
    done = quickdraw(
        "evaluate", finished.run_dir, "--store", finished.folder / "store", "--report-dir",
        tmp_path / "report", "--tracking-uri", f"sqlite:///{tmp_path}/other.db", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").is_file()
    assert f"MLflow       run {finished.run_id} at sqlite:///{tmp_path}/other.db" in done.stdout


def write_test_csv(source: Path, path: Path, rows: int) -> list[str]:
    """A Kaggle test file of rows of all classes, mixed; returns its key ids."""
    lines = []
    for csv_path in sorted(source.glob("*.csv"))[:20]:
        with csv_path.open(newline="") as file:
            lines += [
                (row["key_id"], row["countrycode"], row["drawing"])
                for row, _ in zip(csv.DictReader(file), range(rows // 20 + 1), strict=False)
            ]
    random.Random(0).shuffle(lines)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key_id", "countrycode", "drawing"])
        writer.writerows(lines)
    return [key_id for key_id, _, _ in lines]


@pytest.mark.parametrize("by", ["run id", "run folder", "checkpoint"])
def test_a_submission_answers_every_row_in_the_files_order(
    by: str, finished: Finished, source: Path, tmp_path: Path
) -> None:
    key_ids = write_test_csv(source, tmp_path / "test.csv", rows=200)
    best = (finished.run_dir / "checkpoints" / "best").read_text().strip()
    model = {
        "run id": finished.run_id,
        "run folder": finished.run_dir,
        "checkpoint": finished.run_dir / "checkpoints" / best,
    }[by]
    out = tmp_path / "submission.csv"
    done = quickdraw("predict", model, tmp_path / "test.csv", "--out", out, cwd=finished.folder)
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert [row["key_id"] for row in answers] == key_ids
    known = {
        word.replace(" ", "_") for word in Store.open(finished.folder / "store").label_map.words
    }
    for row in answers:
        words = row["word"].split(" ")
        assert len(words) == len(set(words)) == 3
        assert known >= set(words)


def test_a_row_that_cannot_be_read_is_answered_and_listed(
    finished: Finished, source: Path, tmp_path: Path
) -> None:
    key_ids = write_test_csv(source, tmp_path / "test.csv", rows=40)
    lines = (tmp_path / "test.csv").read_text().splitlines(keepends=True)
    lines[5] = lines[5].replace("[[[", "[[", 1)
    (tmp_path / "test.csv").write_text("".join(lines))
    out = tmp_path / "submission.csv"
    done = quickdraw(
        "predict", finished.run_dir, tmp_path / "test.csv", "--out", out, cwd=finished.folder
    )
    assert done.returncode == 0, done.stderr
    assert (
        "1 rows answered with the most common words: "
        "line 6 (brackets of the drawing do not balance, found '[[" in done.stdout
    )
    with out.open(newline="") as file:
        assert [row["key_id"] for row in csv.DictReader(file)] == key_ids
    lines[7] = "nonsense\n"
    (tmp_path / "test.csv").write_text("".join(lines))
    out.unlink()
    done = quickdraw(
        "predict", finished.run_dir, tmp_path / "test.csv", "--out", out, cwd=finished.folder
    )
    assert done.returncode == 2
    assert "line 8 of the test file has no readable key_id" in done.stderr
    assert not out.exists()


def test_a_model_of_other_classes_is_refused(finished: Finished, store: Store) -> None:
    done = quickdraw("evaluate", finished.run_dir, "--store", store.path, cwd=finished.folder)
    assert done.returncode == 2
    assert "has 8 classes" in done.stderr
    assert "has 4 classes" in done.stderr


def test_inspect_tells_enough_to_compare_two_runs(finished: Finished) -> None:
    done = quickdraw("inspect", finished.run_dir, "--json", cwd=finished.folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    last = finished.run_dir / "checkpoints" / "last"
    ended = quickdraw(
        "inspect", last.with_name(last.read_text().strip()), "--json", cwd=last.parent
    )
    assert json.loads(ended.stdout)["finished"]
    assert found["mlflow_run_id"] == finished.run_id
    assert len(found["weights_sha256"]) == 64
    assert len(found["label_map"]["words"]) == CLASSES
    assert found["config"]["epochs"] == 6
    assert "torch" in found["versions"]
    by_run = quickdraw(
        "inspect", finished.run_id, "--tracking-uri", finished.tracking_uri, cwd=finished.folder
    )
    assert found["weights_sha256"] in by_run.stdout


def test_the_best_model_is_in_mlflow_with_signature_and_labels(finished: Finished) -> None:
    mlflow = client(finished.tracking_uri)
    run = mlflow.get_run(finished.run_id)
    (model,) = mlflow.search_logged_models([run.info.experiment_id])
    assert model.source_run_id == finished.run_id
    assert {m.key for m in model.metrics} >= {"validation/map_at_3"}
    artifacts = {file.path for file in mlflow.list_artifacts(finished.run_id, "checkpoints")}
    assert artifacts == {"checkpoints/best.pt", "checkpoints/last.pt"}
    assert any(key.startswith("system/") for key in run.data.metrics)
