"""What is wrong with a training: on curves of real short runs that were broken on purpose, and
of healthy ones, on which nothing is to be said.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed
from trainings import train_config

from quickdraw_core.diagnosis.curves import Curve, Curves, curve_of, ended_diverged, read_curves
from quickdraw_core.diagnosis.diagnosis import Finding, Kind, diagnose
from quickdraw_core.errors import DivergedError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.launching.summary import train_facts
from quickdraw_core.launching.train import train
from quickdraw_core.modeling.losses import LOSSES, Loss
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.loop import train_loop
from quickdraw_core.training.plan import Rows
from quickdraw_core.training.run_folder import RunFolder

WORDS = (
    *("star", "ice cream", "sun", "envelope", "hat"),
    *("carrot", "ladder", "house", "door", "clock"),
)

Diagnosis = Callable[..., tuple[Finding, ...]]


@pytest.fixture(scope="module")
def store10(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """250 generated doodles of each of ten words: 2,048 to train on, 126 for validation."""
    folder = tmp_path_factory.mktemp("doodles")
    generate_csvs(folder / "csv", WORDS, 250, seed=1)
    ingest(
        IngestConfig(source=folder / "csv", store=folder / "store", test_per_class=20, workers=2)
    )
    return Store.open(folder / "store")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """This process as the only rank, so that a training costs no start of another."""
    rendezvous = tmp_path_factory.mktemp("ranks") / "rendezvous"
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Ranks(0, 1, torch.device("cpu"))
    torch.set_num_threads(threads)
    distributed.destroy_process_group()


@pytest.fixture
def diagnosis(store10: Store, ranks: Ranks, tmp_path: Path) -> Diagnosis:
    """Trains in this process and diagnoses: options → findings."""

    def found(store: Store = store10, **options: object) -> tuple[Finding, ...]:
        values = {"store": store.path, "run_dir": tmp_path, "hardware.ranks": 1, "model": "net"}
        values |= {"image.encoding": "gray", "image.side_px": 24, "tracking.uri": "none"}
        values |= {"tracking.log_every_steps": 5, "tracking.system_metrics_seconds": 1000}
        values |= {"global_batch_size": 64, "epochs": 8}
        config = train_config(values, **options)
        Rows.of(config, open_pack(store)).write(tmp_path)
        run = RunFolder(tmp_path, config, store.manifest.fingerprint, "key")
        run.write()
        train_loop(run, ranks)
        # What it waits for data is a matter of who else uses this machine.
        curves = {k: v for k, v in read_curves(tmp_path).items() if "wait" not in k}
        return diagnose(curves, len(open_pack(store).label_map))

    return found


def only(findings: tuple[Finding, ...]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_learning_rate_too_small_is_told_by_a_slow_steady_fall(diagnosis: Diagnosis) -> None:
    finding = only(
        diagnosis(optimizer={"learning_rate": 1e-6}, epochs=5, validation={"every_steps": 20})
    )
    assert finding.kind == Kind.TOO_SMALL
    assert "in 160 steps" in finding.evidence
    assert finding.advice == "Raise the learning rate (--set optimizer.learning_rate=1e-05)"


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 3), ("adamw", 1), ("muon", 3)])
def test_a_learning_rate_too_large_is_told_by_jumps_without_progress(
    diagnosis: Diagnosis, optimizer: str, rate: float
) -> None:
    finding = only(
        diagnosis(optimizer={"name": optimizer, "learning_rate": rate}, schedule="constant",
                  epochs=4, validation={"every_steps": 16})
    )  # fmt: skip
    assert finding.kind == Kind.TOO_LARGE
    assert f"--set optimizer.learning_rate={rate / 10:.2g}" in finding.advice


def upside_down(logits: Tensor, labels: Tensor) -> Tensor:
    """The report's second mistake: the loss of −p, negative, turned round to be positive."""
    return logits.softmax(1).gather(1, labels[:, None]).mean()


def wrong_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """A hinge with one sign wrong."""
    right = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], float("-inf")).max(1).values
    return (1 + right - others).clamp(min=0).mean()


@pytest.mark.parametrize("loss", [upside_down, wrong_margin])
def test_a_wrong_loss_is_told_by_an_accuracy_that_falls_with_it(
    diagnosis: Diagnosis,
    loss: Callable[[Tensor, Tensor], Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        LOSSES, "wrong", Loss(lambda smoothing, offsets: loss, "broken on purpose")
    )
    found = diagnosis(
        loss="wrong", optimizer={"learning_rate": 0.003}, epochs=6, validation={"every_steps": 24}
    )
    finding = only(found)
    assert finding.kind == Kind.WRONG_LOSS
    assert "guessing reaches 0.183" in finding.evidence


def test_a_forgotten_logarithm_is_told_by_a_negative_loss(diagnosis: Diagnosis) -> None:
    finding = only(diagnosis(loss="nll_without_log", epochs=4))
    assert finding.kind == Kind.LOG_FORGOTTEN
    assert "negative from step 5 on" in finding.evidence
    assert "--set loss=cross_entropy" in finding.advice


def test_over_fitting_is_told_by_a_validation_loss_that_rises(diagnosis: Diagnosis) -> None:
    finding = only(
        diagnosis(
            select={"per_class": 16}, augment=None, epochs=30, validation={"every_epochs": 2},
            schedule="constant", optimizer={"learning_rate": 0.003}, global_batch_size=32,
            micro_batch_size=32,
        )
    )  # fmt: skip
    assert finding.kind == Kind.OVER_FITTING
    assert "the validation loss rose from" in finding.evidence


def test_a_run_that_stops_while_it_learns_is_told_to_go_on(diagnosis: Diagnosis) -> None:
    finding = only(diagnosis(schedule="constant", optimizer={"learning_rate": 1e-3}, epochs=3,
                             validation={"every_steps": 12}))  # fmt: skip
    assert finding.kind == Kind.NOT_FINISHED
    assert "--set epochs=6" in finding.advice


RATES = {"adamw": 0.01, "muon": 0.01, "sgd": 0.05, "adam": 0.003}
HEALTHY = [*itertools.product(RATES, ("onecycle", "multistep", "cosine"), (False, True))]
QUICK = [("adamw", "onecycle", False), ("muon", "cosine", True), ("sgd", "multistep", True)]


def healthy(optimizer: str, schedule: str, smooth: bool) -> dict[str, object]:
    softer = {"loss.label_smoothing": 0.1, "optimizer.ema_decay": 0.98} if smooth else {}
    named = {"optimizer.name": optimizer, "schedule.name": schedule}
    return named | {"optimizer.learning_rate": RATES[optimizer]} | softer


@pytest.mark.parametrize(("optimizer", "schedule", "smooth"), QUICK)
def test_nothing_is_said_of_a_healthy_training(
    diagnosis: Diagnosis, store: Store, optimizer: str, schedule: str, smooth: bool
) -> None:
    """Of four words, which are learned in a quarter of the steps that ten take."""
    findings = diagnosis(
        store, epochs=20, validation={"every_epochs": 2},
        **{"schedule.milestones": (100, 130)}, **healthy(optimizer, schedule, smooth),
    )  # fmt: skip
    assert findings == ()


@pytest.mark.soak
@pytest.mark.parametrize(("optimizer", "schedule", "smooth"), HEALTHY)
def test_nothing_is_said_of_a_healthy_training_of_ten_words(
    diagnosis: Diagnosis, optimizer: str, schedule: str, smooth: bool
) -> None:
    findings = diagnosis(
        epochs=20, **{"schedule.milestones": (400, 520)}, **healthy(optimizer, schedule, smooth)
    )
    assert findings == ()


@pytest.mark.soak
@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "nll_without_log"])
def test_no_loss_of_the_table_is_called_wrong(diagnosis: Diagnosis, loss: str) -> None:
    findings = diagnosis(loss=loss, optimizer={"learning_rate": 0.003}, epochs=12)
    kinds = {finding.kind for finding in findings}
    assert kinds <= {Kind.NOT_FINISHED, Kind.OVER_FITTING}


def test_a_finished_training_tells_what_it_found_also_when_asked_again(
    store: Store, tmp_path: Path
) -> None:
    config = train_config(
        {"store": store.path, "run_dir": tmp_path, "tracking.uri": "none", "hardware.ranks": 1,
         "model": "net", "image.encoding": "gray", "image.side_px": 24, "epochs": 1,
         "tracking.log_every_steps": 1, "loss": "nll_without_log", "global_batch_size": 64}
    )  # fmt: skip
    first, again = train(config), train(config)
    assert again.skipped
    for result in (first, again):
        assert Kind.LOG_FORGOTTEN in [finding.kind for finding in result.findings]
        assert "log forgotten before NLL: the train loss is negative" in " ".join(
            train_facts(result)["finding"].split()
        )


# ---- the function itself, on made curves


def made(**curves: list[float]) -> dict[str, Curve]:
    """Curves from values at 10, 20, …; train_loss stands for train/loss, judged for validation."""
    names = {"judged": "validation/loss", "right": "validation/map_at_3", "loss": "train/loss"}
    names |= {"waits": "train/data_wait_share", "rate": "train/learning_rate"}
    return {
        names[key]: curve_of((10 * (i + 1), value) for i, value in enumerate(values))
        for key, values in curves.items()
    }


def test_waiting_for_data_is_told_by_the_median_share() -> None:
    quiet = made(waits=[0.9, *[0.01] * 20])
    assert diagnose(quiet, 4) == ()
    finding = only(diagnose(made(waits=[0.3] * 20), 4))
    assert finding.kind == Kind.STARVED
    assert "30%" in finding.evidence
    assert "loader_threads" in finding.advice


def test_divergence_is_told_by_a_loss_that_is_not_finite_or_by_the_error() -> None:
    broken = made(loss=[2.0, 1.5, math.nan], rate=[0.5] * 3)
    finding = only(diagnose(broken, 4))
    assert finding.kind == Kind.DIVERGED
    assert "from step 30 on" in finding.evidence
    assert "1.5" in finding.evidence
    assert "--set optimizer.learning_rate=0.05" in finding.advice
    whole = made(loss=[2.0, 1.5])
    assert diagnose(whole, 4) == ()
    assert only(diagnose(whole, 4, has_diverged=True)).kind == Kind.DIVERGED


@pytest.mark.soak
def test_a_run_that_diverges_leaves_the_reason_in_its_journal(
    store: Store, tmp_path: Path
) -> None:
    config = train_config(
        {"store": store.path, "run_dir": tmp_path, "tracking.uri": "none", "hardware.ranks": 1,
         "model": "net", "image.encoding": "gray", "image.side_px": 24, "epochs": 1,
         "schedule": "constant", "tracking.log_every_steps": 1, "optimizer": "sgd",
         "optimizer.learning_rate": 1e9, "global_batch_size": 64}
    )  # fmt: skip
    with pytest.raises(DivergedError):
        train(config)
    assert ended_diverged(tmp_path)
    assert only(diagnose(read_curves(tmp_path), 4, True)).kind == Kind.DIVERGED


def test_of_two_classes_or_few_points_nothing_is_guessed() -> None:
    flat = made(loss=[0.69] * 20, judged=[0.69] * 8, right=[0.75] * 8)
    assert diagnose(flat, 2) == ()
    short = made(loss=[2.3] * 6, judged=[2.3] * 3, right=[0.2] * 3)
    assert diagnose(short, 10) == ()
    assert diagnose({}, 10) == ()
    enough = made(loss=[2.3] * 20, judged=[2.3] * 8, right=[0.18] * 8)
    finding = only(diagnose(enough, 10))
    assert finding.kind == Kind.NO_LEARNING
    assert "ln 10 = 2.303" in finding.evidence


def test_a_low_train_loss_with_smoothed_labels_and_augmentation_is_no_over_fitting() -> None:
    loss = list(np.linspace(3.0, 1.0, 50))
    judged = [2.0, 1.5, 1.2, 1.0, 0.9, 0.86, 0.87, 0.86]  # below the train loss all the time
    right = [0.5, 0.7, 0.8, 0.85, 0.88, 0.89, 0.89, 0.89]
    assert diagnose(made(loss=loss, judged=judged, right=right), 35) == ()


values = st.lists(st.floats(-1e12, 1e12), max_size=40)


@st.composite
def curves_of_any_kind(draw: st.DrawFn) -> dict[str, Curve]:
    names = ("loss", "judged", "right", "waits", "rate")
    chosen = draw(st.sets(st.sampled_from(names)))
    share = st.lists(st.floats(0, 1), max_size=40)
    return made(**{name: draw(share if name == "right" else values) for name in chosen})


@settings(max_examples=200, deadline=None)
@given(curves_of_any_kind(), st.integers(1, 345), st.booleans())
def test_any_curves_can_be_diagnosed(curves: Curves, classes: int, is_broken: bool) -> None:
    if is_broken:
        curves = {k: Curve(v.steps, np.where(v.values > 0, np.nan, v.values))
                  for k, v in curves.items()}  # fmt: skip
    findings = diagnose(curves, classes)
    kinds = [finding.kind for finding in findings]
    assert len(set(kinds)) == len(kinds) <= 2
    for finding in findings:
        assert finding.evidence
        assert "--set " in finding.advice


@settings(max_examples=100, deadline=None)
@given(curves_of_any_kind(), st.integers(2, 345), st.integers(2, 1000))
def test_the_length_of_a_step_does_not_matter(curves: Curves, classes: int, by: int) -> None:
    # Steps count from 100 on: what is said of runs that are long enough.
    steady = {k: Curve(v.steps + 100, v.values) for k, v in curves.items()}
    scaled = {k: Curve(v.steps * by, v.values) for k, v in steady.items()}
    kinds = [[f.kind for f in diagnose(some, classes)] for some in (steady, scaled)]
    assert kinds[0] == kinds[1]


def test_no_finding_is_no_fact() -> None:
    result = SimpleNamespace(
        steps=5, skipped=False, resumed_from=0, best_checkpoint="best.pt",
        metrics={"map_at_3": 0.5}, mlflow_run_id="", notes=(), tracking_problem=None, findings=(),
    )  # fmt: skip
    assert list(train_facts(result)) == ["model", "validation"]  # type: ignore[arg-type]
    result.findings = (
        Finding(
            Kind.OVER_FITTING, "the loss rose " * 12, "Stop sooner (--set validation.patience=3)"
        ),
        Finding(Kind.STARVED, "half of the time", "Draw with more threads"),
    )
    facts = train_facts(result)  # type: ignore[arg-type]
    assert list(facts)[-2:] == ["finding", "finding 2"]
    lines = facts["finding"].splitlines()
    assert all(len(line) <= 99 for line in lines)
    assert all(line.startswith(" " * 13) for line in lines[1:])
