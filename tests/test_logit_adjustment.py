"""Logit adjustment: chosen on validation, kept in the checkpoint, used by all that use it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional
from trainings import network_of, train_config

from quickdraw_core.bundling.graph import MeanOfMembers
from quickdraw_core.errors import CheckpointError, ConfigError
from quickdraw_core.exporting.members import bundle_members
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.inference.inspection import inspect_facts, inspect_model
from quickdraw_core.inference.pieces import PortableModels
from quickdraw_core.inference.references import load_model
from quickdraw_core.launching.train import train
from quickdraw_core.loading.loader import drawn_rows
from quickdraw_core.loading.prior import log_prior
from quickdraw_core.modeling.layers import last_linear
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.checkpoint import find_checkpoint, load_checkpoint, save_checkpoint
from quickdraw_core.training.config import TrainConfig, ValidationConfig
from quickdraw_core.training.distributed import Ranks
from quickdraw_core.training.plan import Rows
from quickdraw_core.training.validation import TAUS, Adjusting, best_of, tallies

COUNTS = [500, 20, 3, 1]
LARGE = ("vgg11", "resnet34", "resnext50_32x4d", "densenet121", "convnext_tiny")


class Alone(Ranks):
    """One process without others: nothing to exchange."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def largest(self, value: float) -> float:
        return value


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_the_last_bias_of_every_model_adds_to_its_logits(name: str) -> None:
    torch.manual_seed(0)
    network = network_of(name, MODELS[name].channels[-1], 4, 24).eval()
    images = torch.rand(2, MODELS[name].channels[-1], 24, 24)
    offsets = torch.tensor([0.0, 1.0, -2.0, 0.5])
    with torch.inference_mode():
        before = network(images)
        last_linear(network)[1].bias.add_(offsets)
        torch.testing.assert_close(network(images), before + offsets, atol=1e-5, rtol=1e-5)


def test_the_prior_is_the_share_of_the_stream_that_a_training_sees() -> None:
    np.testing.assert_allclose(np.exp(log_prior(COUNTS, 0)), np.array(COUNTS) / 524)
    np.testing.assert_allclose(log_prior(COUNTS, 1), np.log(np.full(4, 0.25)))
    halfway = np.sqrt(COUNTS)
    np.testing.assert_allclose(np.exp(log_prior(COUNTS, 0.5)), halfway / halfway.sum())


def test_a_class_that_is_not_trained_on_is_not_raised() -> None:
    """Of `select.classes` the others stay in the answer: a rare one's offset would raise them."""
    for balance in (0, 0.5, 1):
        logs = log_prior([0, 500, 3, 0], balance)
        assert logs[1:3].tolist() == log_prior([500, 3], balance).tolist()
        assert logs[0] == logs[3] == logs.max()
    assert np.isfinite(log_prior([0, 0], 0)).all()


@pytest.mark.parametrize("by", ["log_loss_class_mean", "map_at_3_class_mean"])
def test_nothing_is_adjusted_for_what_rounding_gains(by: str) -> None:
    """Offsets that are the same for all classes change nothing but the last bits."""
    torch.manual_seed(1)
    looks, labels = [5 * torch.randn(500, 40)], torch.arange(500) % 40
    adjusting = Adjusting(torch.full((40,), float(np.log(1 / 40))), by)  # type: ignore[arg-type]
    each = tallies(adjusting)
    for tally in each:
        tally.add(looks, labels, 0.0)
    ranks = Alone(0, 1, torch.device("cpu"))
    if by == "log_loss_class_mean":
        assert len({tally.metrics(ranks)[by] for tally in each}) > 1
    assert best_of(each, adjusting, ranks)["logit_adjustment"] == 0


def test_the_tau_is_the_one_by_which_the_mean_over_classes_is_best() -> None:
    torch.manual_seed(0)
    labels = torch.tensor(np.random.default_rng(0).choice(4, 600, p=np.array(COUNTS) / 524))
    prior = torch.from_numpy(log_prior(COUNTS, 0)).float()
    # As a network is that was trained on these counts: rare classes get too little.
    looks = [torch.randn(600, 4) + 2 * functional.one_hot(labels, 4) + prior for _ in range(2)]
    ranks = Alone(0, 1, torch.device("cpu"))

    def class_mean(tau: float) -> float:
        both = [(look - tau * prior).log_softmax(1) for look in looks]
        losses = functional.nll_loss(
            torch.logaddexp(*both).log_softmax(1), labels, reduction="none"
        )
        return float(np.mean([losses[labels == k].mean() for k in labels.unique()]))

    adjusting = Adjusting(prior, "log_loss_class_mean")
    each = tallies(adjusting)
    for part in range(0, 600, 200):
        for tally in each:
            rows = slice(part, part + 200)
            tally.add([look[rows] for look in looks], labels[rows], 0.0)
    found = best_of(each, adjusting, ranks)
    assert found["logit_adjustment"] == min(TAUS, key=class_mean) > 0
    assert found["log_loss_class_mean"] == pytest.approx(class_mean(found["logit_adjustment"]))
    (plain,) = tallies(None)
    plain.add(looks, labels, 0.25)
    metrics = best_of([plain], None, ranks)
    assert metrics["loss"] == 0.25
    assert "logit_adjustment" not in metrics
    assert metrics["map_at_3_class_mean"] == each[0].metrics(ranks)["map_at_3_class_mean"]
    assert metrics["map_at_3_class_mean"] < found["map_at_3_class_mean"]


@pytest.fixture(scope="module")
def skewed(store: Store, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A training of two ranks in which one class has six drawings and one has twenty."""
    folder = tmp_path_factory.mktemp("skewed")
    dropped = [pack.rows(Split.TRAIN, label)[kept:] for label, kept in ((1, 6), (2, 20))]
    table = pa.table({"key_id": pack.key_ids[np.concatenate(dropped)]})
    pq.write_table(table, folder / "exclude.parquet")
    values = {"store": store.path, "run_dir": folder / "run", "epochs": 5, "tracking.uri": "none"}
    values |= {"model": "net", "model.flip_tta": True, "image.side_px": 24}
    values |= {"global_batch_size": 64, "micro_batch_size": 32, "hardware.ranks": 2}
    values |= {"select.exclude": folder / "exclude.parquet", "select.class_balance": 0.2}
    values |= {"validation.logit_adjustment": "log_loss_class_mean", "loss.label_smoothing": 0.05}
    config = train_config(values)
    train(config)
    return config


def test_a_checkpoint_is_used_with_the_tau_that_its_validation_chose(
    skewed: TrainConfig, pack: Pack
) -> None:
    assert skewed.run_dir is not None
    checkpoint = load_checkpoint(find_checkpoint(skewed.run_dir, "last") or Path())
    tau = checkpoint.metrics["logit_adjustment"]
    assert tau in TAUS[1:]
    assert checkpoint.logit_adjustment == tau
    lines = (skewed.run_dir / "journal.jsonl").read_text().splitlines()
    each = [
        json.loads(line).get("metrics", {}).get("validation/logit_adjustment") for line in lines
    ]
    assert [value for value in each if value is not None][-1] == tau
    model = load_model(str(find_checkpoint(skewed.run_dir, "last")))
    rows = Rows.of(skewed, pack).validation
    right, ranks_of = torch.from_numpy(pack.labels[rows].astype(np.int64)), []
    for batch in drawn_rows(pack, rows, model.image, 100):
        scores = model.logits(batch.images_nchw)
        ranks_of.append((scores > scores.gather(1, batch.labels_n[:, None])).sum(1))
    ranks = torch.cat(ranks_of)
    worth = torch.where(ranks < 3, 1 / (ranks + 1), 0.0)
    mean = np.mean([float(worth[right == k].mean()) for k in right.unique()])
    assert checkpoint.metrics["map_at_3_class_mean"] == pytest.approx(mean, abs=1e-6)
    summary = inspect_model(model)
    assert summary["logit_adjustment"] == tau
    assert f"logits less {tau:g} ln(share" in inspect_facts(summary)["weights"]


def test_every_use_of_a_model_has_its_adjustment(
    trained: Path, pack: Pack, tmp_path: Path
) -> None:
    """A checkpoint without one beside itself with one: predictions, mirror, pieces, bundle."""
    plain = load_checkpoint(find_checkpoint(trained, "best") or Path())
    assert (plain.logit_adjustment, plain.adjustment) == (0, {})
    assert all(plain.weights[key] is value for key, value in plain.trained_weights.items())
    *_, bias = plain.weights
    both = {"tau": 0.5, "bias": bias}
    path = save_checkpoint(tmp_path, replace(plain, adjustment=both, train_counts=COUNTS), True, 2)
    offsets = torch.from_numpy(0.5 * log_prior(COUNTS, 0)).float()
    (batch,) = drawn_rows(pack, pack.test_rows(5), load_model(str(trained)).image, 100)
    for tta in ("none", "flip"):
        models = [load_models([str(where)], tta=tta) for where in (trained, path)]
        looks = [batch.images_nchw, batch.images_nchw.flip(3)][: 1 + (tta == "flip")]
        network = load_model(str(trained)).network
        with torch.inference_mode():
            each = [(network(x / 255) - offsets).softmax(1) for x in looks]
            exact = torch.stack(each).mean(0)
        assert models[0].digest != models[1].digest
        (member,) = bundle_members(models[1])
        assert (member.logit_adjustment, member.flip_tta) == (0.5, tta == "flip")
        elsewhere = PortableModels(models[1]).models
        for found in (
            models[1].log_probabilities([batch.images_nchw]),
            elsewhere.log_probabilities([batch.images_nchw]),
            MeanOfMembers([member]).eval()(batch.images_nchw).detach(),
        ):
            torch.testing.assert_close(found.exp(), exact, atol=1e-5, rtol=1e-4)


def test_a_damaged_adjustment_is_refused(trained: Path) -> None:
    plain = load_checkpoint(find_checkpoint(trained, "best") or Path())
    for bias in ("nothing", next(iter(plain.weights)), None):
        damaged = replace(plain, adjustment={"tau": 1.0, "bias": bias})
        with pytest.raises(CheckpointError, match="which is no bias of 4 classes"):
            _ = damaged.weights


def test_an_unknown_way_to_choose_is_refused() -> None:
    with pytest.raises(ConfigError, match="log_loss_class_mean"):
        ValidationConfig.parse({"logit_adjustment": "map_at_3"})
