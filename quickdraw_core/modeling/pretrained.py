"""Pretrained weights: from torchvision or a file, fitted to the channels, stem and classes asked.

In: a fresh network and where the weights are. Out: the same network with them loaded, except
for the last layer if its classes are others. What is fitted, each an exact rewriting of the
pretrained layer:

- Three input channels to one: summed, so that a grey picture gives what it gave three times.
- A kernel of a stem of stride 2 or 4 to the small stem's: neighbouring weights summed, so that a
  picture gives what it gave enlarged twice, pixels repeated (of the 7 × 7 stem all but its
  outermost row and column, which is added to its neighbour).
- vgg11's first linear layer to a grid of fewer cells: the weights of the cells that showed the
  same input summed.
"""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional

from quickdraw_core.errors import ConfigError, first_line
from quickdraw_core.modeling.layers import first_convolution, last_linear

State = dict[str, Tensor]

IMAGENET = "imagenet"
"""Stands for torchvision's own weights, where else the name of a file stands."""
TIMEOUT_SECONDS = 30
"""How long a silent server is waited for; the library itself would wait for ever."""

_OTHER_WAY = "give a file of weights instead (model.pretrained=/path/weights.pth) or none"
# Densenet's published file has the names in use before 2018: norm.1 is norm1 today.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def load_pretrained(network: nn.Module, name: str, source: str) -> None:
    """Loads the weights of `source`, "imagenet" or a file, into a fresh network of MODELS.

    Raises `ConfigError`: no such weights or file, no network, a torn or foreign file, weights of
    another architecture.
    """
    if source == IMAGENET:
        state, origin = _download(name), f"torchvision's weights for {name}"
    else:
        check_weights(source)
        state, origin = _read(Path(source)), source
    _fit(network, name, state, origin)


def check_weights(source: str) -> None:
    """Refuses a file of weights that is not there. Reads and downloads nothing."""
    if source != IMAGENET and not Path(source).is_file():
        raise ConfigError(
            f"no file of weights {source}; give a state dict that torch.save wrote, or "
            f"model.pretrained={IMAGENET}"
        )


def _download(name: str) -> State:
    """From torchvision's server or its cache (TORCH_HOME)."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    try:
        with _patience(TIMEOUT_SECONDS):
            state: Any = weights.get_state_dict(
                progress=False, check_hash=True, weights_only=True, map_location="cpu"
            )
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise ConfigError(
            f"{weights.url} cannot be fetched ({error}): the weights of {name} need the network "
            f"once; {_OTHER_WAY}"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{weights.url} cannot be read from {torch.hub.get_dir()}/checkpoints "
            f"({first_line(error)[:150]}): torn, or of another user; delete the file there "
            f"and try again, or {_OTHER_WAY}"
        ) from error
    return _tensors(state, weights.url)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Bounds each wait for a socket: torch's downloader offers no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(path: Path) -> State:
    try:
        # Nothing in the file can run code; what is no tensor or plain value is refused.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"{path} holds no weights that can be read ({first_line(error)[:150]}): torn, or not "
            "a state dict that torch.save wrote; give another file"
        ) from error
    return _tensors(state, str(path))


def _tensors(state: Any, origin: str) -> State:
    """The state dict itself, also out of a checkpoint that has it as `model` or `state_dict`."""
    for key in ("states", "model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    named = isinstance(state, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    if not named or not state:
        raise ConfigError(
            f"{origin} holds a {type(state).__name__}, not a state dict of named tensors; "
            "save one with torch.save(network.state_dict(), path)"
        )
    return {_OLD_NAME.sub(r"\1\2.", k.removeprefix("module.")): v for k, v in state.items()}


def _fit(network: nn.Module, name: str, state: State, origin: str) -> None:
    """Fits and loads. All weights must be there but those of a last layer of other classes."""
    wanted = network.state_dict()
    fresh = _drop_other_classes(network, state)
    first = first_convolution(network)
    first_weight = f"{first[0]}.weight" if first else ""
    for key in wanted.keys() & state.keys():
        if state[key].shape != wanted[key].shape:
            if key == first_weight:
                state[key] = fit_stem(state[key], wanted[key].shape)
            elif name == "vgg11" and key == "classifier.0.weight":
                state[key] = fit_grid(state[key], wanted[key].shape)

    # Counts of batches seen are missing in old files, and of no use here.
    expected = {key for key in wanted if not key.endswith("num_batches_tracked")}
    missing = sorted(expected - state.keys() - fresh)
    foreign = sorted(state.keys() - wanted.keys())
    if missing or foreign:
        raise ConfigError(
            f"{origin} is not of {name}: {len(missing)} of its {len(expected)} tensors are "
            f"missing{_such_as(missing)} and {len(foreign)} are foreign{_such_as(foreign)}; "
            "give weights of this network"
        )
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise ConfigError(
                f"{origin} does not fit this {name}: {key} has shape {tuple(value.shape)}, "
                f"expected {tuple(wanted[key].shape)}; give weights of the same channels and side"
            )
    network.load_state_dict(state, strict=False)


def _drop_other_classes(network: nn.Module, state: State) -> set[str]:
    """Takes the last layer out of the state if it has other classes; returns its names."""
    name, layer = last_linear(network)
    keys = {f"{name}.weight", f"{name}.bias"}
    weight = state.get(f"{name}.weight")
    if weight is None or weight.shape[0] == layer.out_features:
        return set()
    for key in keys:
        state.pop(key, None)
    return keys


def fit_stem(weight: Tensor, shape: torch.Size) -> Tensor:
    """A first convolution's weight [out, in, k, k] in the channels and kernel of `shape`.

    What it has no rule for it leaves as it is.
    """
    if shape[1] == 1 and weight.shape[1] == 3:
        weight = weight.sum(1, keepdim=True)
    rule = {
        (7, 3): ((1, 1, 1, 0, 0, 0, 0), (0, 0, 0, 1, 1, 0, 0), (0, 0, 0, 0, 0, 1, 1)),
        (4, 2): ((1, 1, 0, 0), (0, 0, 1, 1)),
    }.get((weight.shape[-1], shape[-1]))
    if rule is None:
        return weight
    summed = torch.tensor(rule, dtype=weight.dtype)
    return torch.einsum("oikl,ak,bl->oiab", weight, summed, summed)


def fit_grid(weight: Tensor, shape: torch.Size) -> Tensor:
    """A linear weight [out, C·7·7] for a grid of fewer cells, [out, C·g·g] of `shape`.

    The layer then gives what it gave behind the adaptive pooling from g × g to 7 × 7.
    """
    channels = weight.shape[1] // 49
    cells = round((shape[1] / channels) ** 0.5) if channels else 0
    if weight.shape != (shape[0], channels * 49) or shape[1] != channels * cells**2:
        return weight
    each = torch.eye(cells * cells, dtype=weight.dtype).view(-1, 1, cells, cells)
    stretched = functional.adaptive_avg_pool2d(each, 7).view(cells * cells, 49)
    grid = weight.view(-1, channels, 49)
    return torch.einsum("ocp,gp->ocg", grid, stretched).flatten(1)


def _such_as(names: list[str]) -> str:
    return f" ({names[0]!r}{', …' if len(names) > 1 else ''})" if names else ""
