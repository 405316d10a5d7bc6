"""Every row of LOSSES against its definition in float64, and where the definitions end."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from quickdraw_core.errors import ConfigError
from quickdraw_core.loading.prior import log_prior
from quickdraw_core.modeling.loss_functions import STEEPEST, LossFunction
from quickdraw_core.modeling.losses import LOSSES, LossConfig, build_loss

Floats = npt.NDArray[np.float64]
DTYPES = (torch.float32, torch.bfloat16)
EXTREMES = (-1e4, 0.0, 1e4)


def loss_of(name: str, label_smoothing: float = 0.0) -> LossFunction:
    return build_loss(LossConfig.parse({"name": name, "label_smoothing": label_smoothing}))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These networks are too small to share out: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def softmax(row: Floats) -> Floats:
    shifted = np.exp(row - row.max())
    return shifted / shifted.sum()


def surprise(row: Floats, right: int) -> float:
    """−ln p of the right class."""
    return float(row.max() - row[right] + np.log(np.exp(row - row.max()).sum()))


def margin(row: Floats, right: int) -> float:
    return float(row[right] - max(value for k, value in enumerate(row) if k != right))


def bounded_exp(u: float) -> float:
    knee = np.log(STEEPEST)
    return float(np.exp(u)) if u <= knee else STEEPEST * (1 + u - knee)


def one_hot(row: Floats, right: int) -> Floats:
    return (np.arange(len(row)) == right).astype(np.float64)


# The definitions, drawing by drawing, as the module's table has them.
REFERENCES: dict[str, Callable[[Floats, int], float]] = {
    "cross_entropy": surprise,
    "nll": surprise,
    "balanced_softmax": surprise,  # of classes that are alike
    "softmax_reciprocal": lambda row, right: bounded_exp(surprise(row, right)),
    "mse": lambda row, right: float(((row - one_hot(row, right)) ** 2).sum()),
    "l1": lambda row, right: float(np.abs(softmax(row) - one_hot(row, right)).sum()),
    "hinge": lambda row, right: max(0.0, 1 - margin(row, right)),
    "logistic": lambda row, right: float(np.logaddexp(0, -margin(row, right))),
    "exponential": lambda row, right: bounded_exp(-margin(row, right)),
    "nll_without_log": lambda row, right: -float(softmax(row)[right]),
}


def reference(name: str, logits: Floats, labels: list[int]) -> float:
    losses = [REFERENCES[name](row, right) for row, right in zip(logits, labels, strict=True)]
    return float(np.mean(losses))


def reference_gradient(name: str, logits: Floats, labels: list[int]) -> Floats:
    """By central differences, each of one drawing's loss: the others' would drown it."""
    gradient, h = np.zeros_like(logits), 1e-6
    for row, k in np.ndindex(*logits.shape):
        step = h * (np.arange(logits.shape[1]) == k)
        up, down = (REFERENCES[name](logits[row] + way * step, labels[row]) for way in (1, -1))
        gradient[row, k] = (up - down) / (2 * h) / len(logits)
    return gradient


def test_every_row_has_a_reference() -> None:
    assert REFERENCES.keys() == LOSSES.keys()
    assert [name for name, row in LOSSES.items() if row.smooths] == [
        "cross_entropy",
        "balanced_softmax",
    ]


# Spread 1: all is ordinary. Spread 8: E goes straight for some of the drawings.
@pytest.mark.parametrize(("name", "spread"), [*itertools.product(LOSSES, (1.0, 8.0))])
@pytest.mark.parametrize("classes", [2, 7])
def test_every_loss_and_its_gradient_are_their_definition(
    name: str, spread: float, classes: int
) -> None:
    torch.manual_seed(3)
    logits = (torch.randn(9, classes, dtype=torch.float64) * spread).requires_grad_()
    labels = torch.arange(9) % classes
    loss = loss_of(name)(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    values = logits.detach().numpy()
    assert loss.item() == pytest.approx(reference(name, values, labels.tolist()), rel=1e-12)
    assert logits.grad is not None
    expected = reference_gradient(name, values, labels.tolist())
    # What the differences can tell, at best: rounding of a loss over the step.
    atol = 1e-9 * max(
        1.0, *(REFERENCES[name](r, k) for r, k in zip(values, labels.tolist(), strict=True))
    )
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("name", LOSSES)
def test_every_gradient_is_torch_s_numerical_one(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert torch.autograd.gradcheck(lambda x: loss_of(name)(x, labels), (logits,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_smooths(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 5
    target = torch.nn.functional.one_hot(labels, 5) * (1 - smoothing) + smoothing / 5
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    expected = -(target * log_p).sum(1).mean()
    torch.testing.assert_close(loss_of("cross_entropy", smoothing)(logits, labels), expected)


@pytest.mark.parametrize("name", [name for name, row in LOSSES.items() if not row.smooths])
def test_smoothing_is_refused_where_there_is_none(name: str) -> None:
    loss_of(name)
    with pytest.raises(
        ConfigError, match=r"set loss.label_smoothing=0, or a loss .* cross_entropy"
    ):
        loss_of(name, 0.05)


@pytest.mark.parametrize(("name", "dtype"), [*itertools.product(LOSSES, DTYPES)])
def test_extreme_logits_overflow_neither_loss_nor_gradient(name: str, dtype: torch.dtype) -> None:
    rows = list(itertools.product(EXTREMES, repeat=3))
    logits = torch.tensor(rows, dtype=dtype, requires_grad=True)
    for right in range(3):
        labels = torch.full((len(rows),), right)
        loss = loss_of(name)(logits, labels)
        assert loss.dtype == torch.float32
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert gradient.dtype == dtype
        assert gradient.abs().max() <= 2.1 * STEEPEST / len(rows)


@pytest.mark.parametrize("name", LOSSES)
def test_float32_agrees_with_float64(name: str) -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(32, 340) * 3, torch.arange(32)
    found, exact = loss_of(name)(logits, labels), loss_of(name)(logits.double(), labels)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def clusters() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.arange(256) % 8
    return torch.randn(8, 16)[labels] * 2 + torch.randn(256, 16), labels


@pytest.mark.parametrize("name", LOSSES)
def test_following_any_of_them_teaches_a_network(name: str) -> None:
    x, labels = clusters()
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    loss_function, losses = loss_of(name), []
    for _ in range(150):
        loss = loss_function(network(x), labels)
        losses.append(float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    share_right = (network(x).argmax(1) == labels).float().mean()
    assert losses[-1] < losses[0]
    assert share_right > 0.95


def test_nll_refuses_probabilities_with_the_reason() -> None:
    labels = torch.arange(64) % 2
    for classes in (2, 340):
        probabilities = torch.randn(64, classes).softmax(1)
        for dtype in (torch.float32, torch.bfloat16):
            with pytest.raises(ConfigError, match="starts near 0 and falls to -1, and its nega"):
                loss_of("nll")(probabilities.to(dtype), labels)


def test_nll_takes_what_only_resembles_probabilities() -> None:
    labels = torch.tensor([0, 1])
    for logits in ([[0.5, 0.5], [0.5, 0.6]], [[2.0, -1.0], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]):
        assert torch.isfinite(loss_of("nll")(torch.tensor(logits), labels))


def test_nll_looks_at_its_first_logits_alone() -> None:
    loss, labels = loss_of("nll"), torch.tensor([0, 1])
    expected = torch.tensor(0.6931)
    torch.testing.assert_close(loss(torch.zeros(2, 2), labels), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(loss(torch.full((2, 2), 0.5), labels), expected, atol=1e-4, rtol=0)


def test_the_report_s_mistake_is_what_the_reason_says() -> None:
    """NLL of plain probabilities starts near 0 and goes to −1; its negation unlearns."""
    x, labels = clusters()
    ends = {}
    for sign in (1, -1):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(16, 8), nn.Softmax(1))
        optimizer = torch.optim.AdamW(network.parameters(), 0.05)
        losses = []
        for _ in range(100):
            loss = torch.nn.functional.nll_loss(network(x), labels)
            losses.append(float(loss.detach()))
            (sign * loss).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        ends[sign] = losses[0], losses[-1], float((network(x).argmax(1) == labels).float().mean())
    assert -0.35 < ends[1][0] < 0
    assert ends[1][1] < -0.9
    assert ends[-1][1] > -0.01
    assert ends[-1][2] < 0.05


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_balanced_softmax_is_cross_entropy_of_logits_and_the_classes_shares(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    counts = [500, 20, 3, 0]  # of the last there is none: it counts as the largest does
    logits, labels = torch.randn(64, 4).to(dtype), torch.arange(64) % 4
    shares = torch.tensor([500.0, 20, 3, 500], dtype=torch.float64) / 523
    for tau, smoothing in itertools.product((1.0, 0.5), (0.0, 0.1)):
        config = LossConfig(name="balanced_softmax", tau=tau, label_smoothing=smoothing)
        found = build_loss(config, log_prior(counts, 0.0))(logits, labels)
        scores = logits.double() + tau * shares.log()
        exact = torch.nn.functional.cross_entropy(scores, labels, label_smoothing=smoothing)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
    # A stream that brings all classes equally often has nothing to allow for.
    plain = loss_of("cross_entropy")(logits, labels)
    balanced = build_loss(LossConfig(name="balanced_softmax"), log_prior(counts, 1.0))
    torch.testing.assert_close(balanced(logits, labels), plain)


def test_tau_is_for_balanced_softmax_alone() -> None:
    with pytest.raises(ConfigError, match=r"has no tau, found 0\.5.*has it: balanced_softmax"):
        LossConfig.parse({"name": "hinge", "tau": 0.5})


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cross_entropy'"):
        loss_of("crossentropy")
    with pytest.raises(ConfigError, match="did you mean 'hinge'"):
        loss_of("hinges", 0.1)
