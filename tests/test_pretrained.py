"""Weights from torchvision and from files: fitted exactly, and refused with the reason."""

import hashlib
import http.server
import pickle
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights
from trainings import network_of

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling import pretrained
from quickdraw_core.modeling.layers import first_convolution, last_linear
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.modeling.pretrained import fit_grid, fit_stem

SMALL = "mobilenet_v3_small"
# vgg11's file would have half a gigabyte; what is special about it is tried without one.
FILED = [name for name, row in MODELS.items() if row.imagenet and name != "vgg11"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """And torch's cache in a folder of the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def saved(network: nn.Module, path: Path) -> str:
    torch.save(network.state_dict(), path)
    return str(path)


def lively(name: str, classes: int = 1000) -> nn.Module:
    """torchvision's network with running means and spreads that are not those of a fresh one."""
    torch.manual_seed(0)
    network: nn.Module = get_model(name, num_classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.mark.parametrize("name", FILED)
def test_weights_for_three_channels_are_summed_for_one_and_all_else_is_kept(
    name: str, tmp_path: Path
) -> None:
    original = lively(name)
    source = saved(original, tmp_path / "weights.pth")
    network = network_of(name, 1, 340, 96, pretrained=source)
    first, before = first_convolution(network), first_convolution(original)
    assert first is not None
    assert before is not None
    torch.testing.assert_close(first[1].weight, before[1].weight.sum(1, keepdim=True))
    last_name, last = last_linear(network)
    assert last.out_features == 340
    found = network.state_dict()
    for key, value in original.state_dict().items():
        if key != f"{first[0]}.weight" and not key.startswith(last_name):
            assert torch.equal(found[key], value), key


@pytest.mark.parametrize("name", ["resnet18", SMALL])
def test_a_grey_picture_gets_the_logits_it_got_in_three_channels(
    name: str, tmp_path: Path
) -> None:
    original = lively(name).eval()
    network = network_of(name, 1, 1000, 96, pretrained=saved(original, tmp_path / "w.pth")).eval()
    grey = torch.rand(2, 1, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(
            network(grey), original(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-3
        )


def test_convnext_s_small_stem_sees_what_the_usual_one_saw_enlarged(tmp_path: Path) -> None:
    original = lively("convnext_tiny", classes=7).eval()
    source = saved(original, tmp_path / "w.pth")
    network = network_of("convnext_tiny", 3, 7, 32, pretrained=source).eval()
    small = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = original(functional.interpolate(small, scale_factor=2))
        torch.testing.assert_close(network(small), expected, atol=1e-4, rtol=1e-3)


def test_a_stem_of_seven_is_folded_to_three_but_for_its_outermost_row_and_column() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 7, 7, dtype=torch.float64)
    assert fit_stem(weight, torch.Size((4, 1, 3, 3))).sum() == pytest.approx(weight.sum().item())
    weight[:, :, 0] = weight[:, :, :, 0] = 0
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    enlarged = functional.interpolate(x, scale_factor=2)
    expected = functional.conv2d(enlarged, weight, stride=2, padding=3)
    folded = fit_stem(weight, torch.Size((4, 3, 3, 3)))
    torch.testing.assert_close(functional.conv2d(x, folded, padding=1), expected)


@pytest.mark.parametrize("cells", range(1, 8))
def test_vgg11_s_classifier_is_folded_to_the_cells_there_are(cells: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 3 * 49, dtype=torch.float64)
    grid = torch.randn(2, 3, cells, cells, dtype=torch.float64)
    expected = functional.adaptive_avg_pool2d(grid, 7).flatten(1) @ weight.T
    folded = fit_grid(weight, torch.Size((5, 3 * cells * cells)))
    torch.testing.assert_close(grid.flatten(1) @ folded.T, expected)


@pytest.mark.soak  # 130 M weights, three times
def test_vgg11_s_pretrained_weights_say_the_same_of_the_cells_there_are(tmp_path: Path) -> None:
    original = lively("vgg11", classes=7).eval()
    network = network_of("vgg11", 1, 7, 64, pretrained=saved(original, tmp_path / "w.pth")).eval()
    original.set_submodule("features.2", nn.Identity())  # the pooling that a small stem leaves out
    grey = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = original(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(network(grey), expected, atol=1e-4, rtol=1e-3)


def test_a_last_layer_of_as_many_classes_is_kept_and_another_dropped(tmp_path: Path) -> None:
    original = lively(SMALL, classes=7)
    source = saved(original, tmp_path / "w.pth")
    _, before = last_linear(original)
    _, same = last_linear(network_of(SMALL, 3, 7, 64, pretrained=source))
    _, other = last_linear(network_of(SMALL, 3, 8, 64, pretrained=source))
    assert torch.equal(same.weight, before.weight)
    assert torch.equal(same.bias, before.bias)
    assert other.weight.shape == (8, 1024)
    assert 0 < other.weight.std() < 0.1


@pytest.mark.parametrize("name", ["small_cnn", "net", "stroke_transformer"])
def test_our_own_networks_too_begin_where_a_file_ends(name: str, tmp_path: Path) -> None:
    channels = MODELS[name].channels[-1]
    original = network_of(name, channels, 7, 32)
    source = saved(original, tmp_path / "w.pth")
    network = network_of(name, MODELS[name].channels[0], 9, 32, pretrained=source)
    values, expected = network.state_dict(), original.state_dict()
    shared = [k for k, v in expected.items() if values[k].shape == v.shape]
    assert len(shared) >= len(values) - 3
    assert all(torch.equal(values[key], expected[key]) for key in shared)


def test_densenet_s_older_names_are_understood(tmp_path: Path) -> None:
    original = lively("densenet121", classes=3)
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for key, value in original.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert any("denselayer1.norm.1.weight" in key for key in old)
    torch.save(old, tmp_path / "w.pth")
    network = network_of("densenet121", 3, 3, 96, pretrained=str(tmp_path / "w.pth"))
    expected = original.state_dict()
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, expected[name])


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_checkpoint_and_other_wrappers_are_understood(key: str, tmp_path: Path) -> None:
    original = network_of("net", 1, 3, 32)
    state = {f"module.{name}": value for name, value in original.state_dict().items()}
    torch.save({"step": 3, key: state, "config": {"model": "net"}}, tmp_path / "w.pth")
    network = network_of("net", 1, 3, 32, pretrained=str(tmp_path / "w.pth"))
    for name, value in network.state_dict().items():
        assert torch.equal(value, original.state_dict()[name])


class Trap:
    """Makes a file by being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    good = tmp_path / "good.pth"
    saved(network_of("net", 1, 3, 32), good)
    cases: dict[str, object] = {
        "text": b"no weights at all\n" * 50,
        "empty": b"",
        "torn": good.read_bytes()[:-2000],
        "trap": pickle.dumps(Trap(tmp_path / "sprung")),
    }
    for content in cases.values():
        assert isinstance(content, bytes)
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"weights\.pth holds no weights that can be read"):
            network_of("net", 1, 3, 32, pretrained=str(path))
    torch.save({"model": Trap(tmp_path / "sprung")}, path)
    with pytest.raises(ConfigError, match="holds no weights that can be read"):
        network_of("net", 1, 3, 32, pretrained=str(path))
    assert not (tmp_path / "sprung").exists()
    for value in ([1, 2], {"a": 1}, {}, torch.zeros(3)):
        torch.save(value, path)
        with pytest.raises(ConfigError, match="not a state dict of named tensors"):
            network_of("net", 1, 3, 32, pretrained=str(path))
    with pytest.raises(ConfigError, match=r"no file of weights .*missing\.pth"):
        network_of("net", 1, 3, 32, pretrained=str(tmp_path / "missing.pth"))


def test_weights_of_another_network_or_another_size_are_refused(tmp_path: Path) -> None:
    source = saved(network_of("net", 1, 3, 32), tmp_path / "net.pth")
    with pytest.raises(
        ConfigError, match=r"net.pth is not of small_cnn: .* are missing .* foreign"
    ):
        network_of("small_cnn", 1, 3, 32, pretrained=source)
    with pytest.raises(
        ConfigError, match=r"7.weight has shape \(120, 400\), expected \(120, 2704"
    ):
        network_of("net", 1, 3, 64, pretrained=source)
    with pytest.raises(
        ConfigError, match=r"0.weight has shape \(6, 1, 5, 5\), expected \(6, 3, 5"
    ):
        network_of("net", 3, 3, 32, pretrained=source)


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if not row.imagenet])
def test_our_own_networks_have_no_imagenet_weights(name: str) -> None:
    with pytest.raises(ConfigError, match="no weights trained on ImageNet, these have: vgg11"):
        network_of(name, MODELS[name].channels[-1], 3, 32, pretrained="imagenet")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that a web server on this host serves, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Lets torchvision believe that its weights are at `url`."""
    monkeypatch.setattr(get_model_weights(SMALL).DEFAULT.value, "url", url)


def build() -> nn.Module:
    return network_of(SMALL, 1, 340, 64, pretrained="imagenet")


def stem_of(network: nn.Module) -> Tensor:
    found = first_convolution(network)
    assert found is not None
    return found[1].weight


def test_torchvision_s_weights_are_fetched_once_and_checked(
    monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    original = lively(SMALL)
    saved(original, folder / "w.pth")
    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()[:8]
    (folder / "w.pth").rename(folder / f"small-{digest}.pth")
    publish(monkeypatch, f"{address}/small-{digest}.pth")
    expected = stem_of(original).sum(1, keepdim=True)
    torch.testing.assert_close(stem_of(build()), expected)

    (folder / f"small-{digest}.pth").unlink()  # the cache has it now
    torch.testing.assert_close(stem_of(build()), expected)

    (cached,) = tmp_path.glob("torch/hub/checkpoints/*.pth")
    cached.write_bytes(cached.read_bytes()[:5000])
    with pytest.raises(
        ConfigError, match=r"cannot be read from .*checkpoints .*; delete the file"
    ):
        build()


def test_a_file_that_is_not_what_its_name_says_is_refused(
    monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]
) -> None:
    folder, address = served
    saved(network_of("net", 1, 3, 32), folder / "small-00000000.pth")
    publish(monkeypatch, f"{address}/small-00000000.pth")
    with pytest.raises(ConfigError, match=r"invalid hash value .* torn"):
        build()


def test_no_network_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/small-00000000.pth", f"{served[1]}/no-00000000.pth"):
        publish(monkeypatch, url)
        with pytest.raises(ConfigError, match=r"cannot be fetched \(.*give a file of weights"):
            build()


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/small-00000000.pth")
        with pytest.raises(ConfigError, match=r"cannot be fetched \(.*timed out"):
            build()
    assert socket.getdefaulttimeout() is None
