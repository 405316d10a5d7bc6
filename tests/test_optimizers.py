"""Every row of OPTIMIZERS: it goes downhill, decays what it should, and resumes bit for bit."""

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from trainings import network_of

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.muon import Muon, hidden_matrices, orthogonalized
from quickdraw_core.modeling.optimizers import OPTIMIZERS, OptimizerConfig, build_optimizer


def optimizer_of(name: str, network: Any, learning_rate: float, decay: float) -> Optimizer:
    values = {"name": name, "learning_rate": learning_rate, "weight_decay": decay}
    return build_optimizer(OptimizerConfig.parse(values), network)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These networks are too small to share out: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = network_of("small_cnn", 1, 10, 24)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def train(network: nn.Module, optimizer: Optimizer, steps: range) -> list[float]:
    """Losses of steps that depend on nothing but their number and the two states."""
    losses = []
    for step in steps:
        rng = torch.Generator().manual_seed(step)
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 0.005 / (1 + step / 10)
        labels = torch.arange(16) % 10
        x = functional.one_hot(labels, 24).float()[:, None, None].expand(-1, 1, 24, -1)
        loss = functional.cross_entropy(
            network(x + 0.1 * torch.rand(x.shape, generator=rng)), labels
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def stored(value: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint would give it back."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_minimises_a_quadratic(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    goal, x = nn.Linear(6, 4), torch.randn(64, 6)
    optimizer = optimizer_of(name, network, 0.02, 0)
    losses = []
    for _ in range(150):
        loss = (network(x) - goal(x).detach()).square().sum(1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_training_is_the_same_to_the_bit(name: str) -> None:
    network = small_network()
    optimizer = optimizer_of(name, network, 0.1, 0.05)
    losses = train(network, optimizer, range(3))
    saved = stored({"network": network.state_dict(), "optimizer": optimizer.state_dict()})
    expected = train(network, optimizer, range(3, 6))
    assert expected[-1] < losses[0]

    resumed = small_network(seed=1)
    other = optimizer_of(name, resumed, 0.7, 0.3)
    resumed.load_state_dict(saved["network"])
    other.load_state_dict(saved["optimizer"])
    assert train(resumed, other, range(3, 6)) == expected
    weights = resumed.state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(weights[key], value), key
    assert [group["weight_decay"] for group in other.param_groups] == [
        group["weight_decay"] for group in optimizer.param_groups
    ]


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("adamw", "convnext_tiny"),  # the groups are the same for all, and the network is large
        *((name, model) for name in OPTIMIZERS for model in ("small_cnn", "stroke_transformer")),
    ],
)
def test_weights_decay_and_biases_norms_and_scales_do_not(name: str, model: str) -> None:
    network = network_of(model, 3, 5, 24)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
            parameter.grad = torch.zeros_like(parameter)
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    optimizer_of(name, network, 0.01, 0.5).step()
    for key, parameter in network.named_parameters():
        if key.endswith("bias") or "norm" in key or "layer_scale" in key or parameter.ndim < 2:
            assert torch.equal(parameter, before[key]), key
        else:
            assert parameter.norm() < before[key].norm(), key


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "muon"])
def test_bare_parameters_are_sorted_by_their_dimensions(name: str) -> None:
    layer = nn.Linear(4, 2)
    frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)
    optimizer = optimizer_of(name, [*layer.parameters(), frozen], 0.01, 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert [group["params"] for group in optimizer.param_groups] == [[layer.weight], [layer.bias]]


def test_muon_takes_hidden_matrices_alone() -> None:
    network = network_of("mobilenet_v3_small", 1, 5, 32)
    chosen = {id(weight) for weight in hidden_matrices(network)}
    layers = [(k, m) for k, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for place, (key, layer) in enumerate(layers):
        grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
        hidden = 0 < place < len(layers) - 1 and not grouped
        assert (id(layer.weight) in chosen) == hidden, key
    optimizer = optimizer_of("muon", network, 0.01, 0.1)
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    assert sum(sizes) == sum(p.numel() for p in network.parameters())


def test_muon_leaves_the_layers_that_read_either_input_to_adamw() -> None:
    network = network_of("sketch_fusion", 6, 5, 24)
    others = {id(network.picture[0]), id(network.points.embed[0]), id(network.head)}
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    expected = [id(layer.weight) for layer in layers if id(layer) not in others]
    assert [id(weight) for weight in hidden_matrices(network)] == expected
    assert len(expected) == len(layers) - 3


def by_definition(matrix: Tensor) -> Tensor:
    """Newton-Schulz steps as the paper writes them, in float64."""
    found = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = found @ found.T
        found = 3.4445 * found - 4.7750 * gram @ found + 2.0315 * gram @ gram @ found
    return found


@given(st.integers(1, 48), st.integers(1, 48), st.integers(1, 48), st.integers(0, 9))
def test_a_step_is_made_orthogonal_as_its_definition_says(
    rows: int, columns: int, rank: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    parts = torch.randn(rows, rank, generator=rng), torch.randn(rank, columns, generator=rng)
    matrix = parts[0] @ parts[1]
    found = orthogonalized(matrix)
    expected = by_definition(matrix)
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(orthogonalized(matrix.T), found.T, atol=2e-3, rtol=0)


def test_a_gradient_of_zeros_is_no_step() -> None:
    assert not orthogonalized(torch.zeros(4, 9)).any()


def test_muon_costs_less_than_the_network() -> None:
    network = network_of("small_cnn", 1, 5, 32)
    optimizer = optimizer_of("muon", network, 0.01, 0.1)

    def seconds_of(work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    images = torch.rand(64, 1, 32, 32)
    times = [
        (seconds_of(lambda: network(images).sum().backward()), seconds_of(optimizer.step))
        for _ in range(4)
    ]
    trained, stepped = (min(column) for column in zip(*times, strict=True))
    assert stepped < trained


def test_muon_is_torch_s_on_matrices_and_adamw_on_the_rest() -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4))

    ours, plain = network(), network()
    optimizer = optimizer_of("muon", ours, 0.01, 0.1)
    vectors = [layer.bias for layer in plain]
    references = [
        torch.optim.Muon([plain[1].weight], 0.01, 0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([plain[0].weight, plain[2].weight], 0.01, weight_decay=0.1),
        torch.optim.AdamW(vectors, 0.01, weight_decay=0),
    ]
    for _ in range(5):
        gradients = [torch.randn(parameter.shape) for parameter in plain.parameters()]
        for trained, optimizers in ((ours, [optimizer]), (plain, references)):
            for parameter, gradient in zip(trained.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
            for each in optimizers:
                each.step()
    found, expected = (dict(trained.named_parameters()) for trained in (ours, plain))
    # torch makes it orthogonal in bfloat16, of two to three digits: five steps of 0.006 at most.
    matrix = found.pop("1.weight"), expected.pop("1.weight")
    torch.testing.assert_close(*matrix, atol=1e-3, rtol=0)
    torch.testing.assert_close(found, expected)


def test_muon_steps_alike_whatever_the_layout_in_memory() -> None:
    networks = [small_network(), small_network().to(memory_format=torch.contiguous_format)]
    states = []
    for network in networks:
        optimizer = optimizer_of("muon", network, 0.01, 0.1)
        rng = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            gradient = torch.randn(parameter.shape, generator=rng)
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        optimizer.step()
        states.append(optimizer.state_dict()["muon"]["state"])
    for first, second in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(first, second)
    for key, value in states[0].items():
        assert torch.equal(value["momentum_buffer"], states[1][key]["momentum_buffer"])


def test_muon_forgets_gradients_and_leaves_untouched_what_has_none() -> None:
    network = small_network()
    optimizer = optimizer_of("muon", network, 0.01, 0.1)
    assert isinstance(optimizer, Muon)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer.step()
    assert all(map(torch.equal, before, network.parameters()))
    for set_to_none in (False, True):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.zero_grad(set_to_none)
        left = [parameter.grad for parameter in network.parameters()]
        assert all(grad is None if set_to_none else not grad.any() for grad in left)  # type: ignore[union-attr]


def test_muon_says_what_it_needs() -> None:
    for network in (nn.Linear(4, 2), nn.Linear(4, 2).parameters()):
        with pytest.raises(
            ConfigError, match="muon needs matrices between the first and the last"
        ):
            optimizer_of("muon", network, 0.01, 0)


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'adam'"):
        optimizer_of("adamx", [], 1, 0)
