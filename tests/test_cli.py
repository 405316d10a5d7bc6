"""The command line as a person uses it: a process, its output, its exit code."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import environment_of, quickdraw
from forkserver import real_python
from processes import rank_processes

from quickdraw_core.commands.running import going_on_said
from quickdraw_core.store.store import Store
from quickdraw_core.tracking.run_record import tracked_run_id
from quickdraw_core.tracking.runs import client


def processor_seconds_of(*words: str) -> float:
    """Of a real interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([real_python(), *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_little_more_than_its_libraries(tmp_path: Path) -> None:
    times = [
        (
            processor_seconds_of("-m", "quickdraw_core.cli", "--help"),
            processor_seconds_of("-c", "import typer, rich.console, rich.table, rich.panel"),
        )
        for _ in range(3)
    ]
    helped, imported = (min(column) for column in zip(*times, strict=True))
    assert helped < 2 * imported
    assert "pipeline" in quickdraw("--help", cwd=tmp_path).stdout


def test_help_loads_no_heavy_library() -> None:
    code = "import quickdraw_core.cli, sys; print(*sys.modules)"
    told = subprocess.run([real_python(), "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in told.stdout.split()}
    assert "typer" in loaded
    assert not loaded & {"prefect", "dask", "mlflow", "torch", "numba", "numpy", "pydantic"}


def test_generate_says_what_it_wrote(tmp_path: Path) -> None:
    done = quickdraw("generate", "csv", "--classes", 2, "--rows", 30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60 of 2 words in csv" in done.stdout
    assert len(list((tmp_path / "csv").glob("*.csv"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "nowhere"], "no folder or file"),
        (["ingest", "{csv}", "--set", "rowz=all"], "did you mean 'rows'?"),
        (["ingest", "{csv}", "--rows", "tail:3"], "rows must be all, head:N or spread:WxR"),
        (["ingest", "{csv}", "--classes-file", "words.txt"], "no class 'sunn' in"),
        (["ingest", "{csv}", "--classes", "sun,ice_cream,sunn"], "no class 'sunn' in"),
        (["ingest", "{csv}", "--classes", "sun,"], "--classes holds an empty name"),
        (["ingest", "{bad}"], "bad/sun.csv lacks the column 'drawing'"),
        (["ingest", "."], "no file of drawings in"),
        (["train", "--store", "nowhere"], "no store there: nowhere does not exist"),
        (
            ["train", "--store", "{store}", "--recipe", "labtop"],
            "did you mean 'laptop' or 'laptop340'?",
        ),
        (["train", "--store", "{store}", "--set", "model=resnet"], "did you mean 'resnet34' or"),
        (
            ["train", "--store", "{store}", "--nnodes", "2"],
            "option 'hosts': 2 hosts need a way to meet; give --dask tcp://SCHEDULER:8786, or "
            "--rendezvous HOST:PORT of host 0 to each of them",
        ),
        (
            ["train", "--store", "{store}", "--dask", "alpha:8786"],
            "must be an address such as tcp://scheduler:8786, found 'alpha:8786'",
        ),
        (
            [
                "train",
                "--store",
                "{store}",
                "--dask",
                "tcp://alpha:8786",
                "--rendezvous",
                "alpha:1",
            ],
            "leave them out with dask",
        ),
        (
            ["train", "--store", "{store}", "--set", "hosts.require=GPU"],
            "must be names with amounts above 0, as GPU=1 or GPU=2,BIGMEM=1, found 'GPU'",
        ),
        (["train", "--store", "{store}", "--tracking-uri", "htp://x"], "is in no known form"),
        (
            ["train", "--store", "{store}", "--set", "image.encoding=points"],
            "sketch_fusion reads a drawing",
        ),
        (
            ["train", "--store", "{store}", "--set", "model.pretrained=w.pth"],
            "no file of weights w.pth",
        ),
        (
            ["train", "--store", "{store}", "--set", 'select.classes=["sunn"]'],
            "did you mean 'sun'",
        ),
        (["evaluate", "nothing", "--store", "{store}"], "no model nothing"),
        (["inspect", "nothing"], "no model nothing"),
        (["show", "{store}", "--class", "sunn"], "did you mean 'sun'?"),
        (["show", "{store}", "--class", "sun", "--split", "tset"], "did you mean 'test'?"),
        (["losses", "--plot", "figure.txt"], ".png"),
        (["predict", "words.txt", "test.csv"], "words.txt is no checkpoint that can be read"),
        (["pipeline", "{csv}", "--set", "epochs=3"], "--set epochs=… names no stage"),
        (["pipeline", "{csv}", "--set", "evaluate.average=5"], "give train.checkpoints.keep=5"),
        (["pipeline", "{csv}", "--set", "evaluate.model=x"], "judges the model that it trains"),
        (["pipeline", "{csv}", "--set", "evaluate.json_file=no/e.json"], "no folder no to write"),
        (["generate", "csv", "--classes", "99"], "draws 1 to 44 words, found 99"),
        (["generate", "csv", "--progress", "plane"], "unknown progress 'plane'; known: plain, r"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2_and_leaves_nothing(
    arguments: list[str], message: str, csv_folder: Path, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("sunn\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "sun.csv").write_text("word,key_id,countrycode\nsun,1,US\n")
    before = sorted(tmp_path.rglob("*"))
    places = {"csv": csv_folder, "store": store.path, "bad": tmp_path / "bad"}
    done = quickdraw(*(a.format(**places) for a in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.strip() == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bad_file_is_named_with_exit_code_1_and_nothing_is_trained(
    csv_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(csv_folder, tmp_path / "csv")
    (tmp_path / "csv" / "owl.csv").write_text("")
    done = quickdraw("pipeline", "csv", "--allow-short", "--quiet", cwd=tmp_path)
    assert done.returncode == 1
    assert "store        store (written)" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: 1 class is left out of store, which holds the other ")
    assert "owl.csv is empty" in line
    assert not (tmp_path / "runs").exists()
    (tmp_path / "csv" / "owl.csv").unlink()
    done = quickdraw("ingest", "csv", "--set", "test_per_class=100", cwd=tmp_path)
    assert "up to date" in done.stdout, done.stderr
    Store.open(tmp_path / "store").verify()


def test_a_class_is_shown_and_the_losses_are_drawn(store: Store, tmp_path: Path) -> None:
    done = quickdraw("show", store.path, "--class", "ice_cream", cwd=tmp_path)
    assert "ice_cream.png (24 drawings of ice_cream)" in done.stdout, done.stderr
    assert (tmp_path / "ice_cream.png").read_bytes().startswith(b"\x89PNG")
    done = quickdraw("losses", "--plot", "losses.svg", cwd=tmp_path)
    assert "softmax_reciprocal" in done.stdout, done.stderr
    assert "</svg>" in (tmp_path / "losses.svg").read_text()


@pytest.mark.services  # a chain of real processes
@pytest.mark.parametrize(
    ("way", "ending"),
    [([], signal.SIGINT), (["--prefect"], signal.SIGINT), ([], signal.SIGTERM)],
    ids=["Ctrl-C", "Ctrl-C, as a flow", "SIGTERM"],
)
def test_a_signal_ends_everything_at_once_and_the_run_is_marked_killed(
    way: list[str], ending: signal.Signals, store: Store, tmp_path: Path
) -> None:
    command = [real_python(), "-m", "quickdraw_core.cli", "train", "--store", str(store.path)]
    for option in ("epochs=1000", "model=net", "image.side_px=24", "checkpoints.every_steps=3"):
        command += ["--set", option]
    process = subprocess.Popen(
        [*command, *way, "--quiet"],
        cwd=tmp_path,
        env=environment_of(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's foreground group: the signal reaches all of it
        # A shell starts what is in its background deaf to Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("runs/*/checkpoints/last")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, ending)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + ending
    assert errors.splitlines() == ["stopped; the same command goes on from here"]
    (run_dir,) = tmp_path.glob("runs/*")
    assert not rank_processes(run_dir)
    run_id = tracked_run_id(run_dir)
    run = client(f"sqlite:///{tmp_path}/mlflow.db").get_run(run_id)
    assert run.info.status == "KILLED"


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ([], "stopped; the same command goes on from here"),
        (["--set", "seed=1"], "stopped; the same command goes on from here"),
        (["--fresh"], "stopped; the same command (without --fresh) goes on from here"),
        (
            ["--set", "train.fresh=true"],
            "stopped; the same command (without --fresh) goes on from here",
        ),
    ],
)
def test_ctrl_c_does_not_advise_to_throw_away_what_is_done(
    options: list[str],
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["quickdraw", "train", *options])
    with pytest.raises(KeyboardInterrupt), going_on_said():
        stop()
    assert capsys.readouterr().err.splitlines() == [advice]
