"""Every row of MODELS: what goes in, what comes out, that it learns, where its weights begin."""

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from forkserver import real_python
from torch import Tensor, nn
from torch.nn import functional
from trainings import network_of

from quickdraw_core.errors import ConfigError
from quickdraw_core.modeling.layers import reinitialized_convolution
from quickdraw_core.modeling.models import MODELS, ModelConfig, build_model, check_model
from quickdraw_core.modeling.sketch_fusion import PointBranch
from quickdraw_core.modeling.stroke_transformer import StrokeTransformer
from quickdraw_core.render import encodings
from quickdraw_core.render.encodings import Encoding, ImageConfig

CHANNELS = [(name, channels) for name, row in MODELS.items() for channels in row.channels]
# To draw vgg11's 130 M weights takes seconds; its three channels are tried with the sides.
DRAWN = [row for row in CHANNELS if row != ("vgg11", 3)]
STEMS = [name for name, row in MODELS.items() if row.imagenet]
LARGE = (
    "vgg11",
    "resnet34",
    "resnext50_32x4d",
    "densenet121",
    "convnext_tiny",
    "sketch_fusion_resnet34",
)
RATES = {"vgg11": 1e-4, "net": 0.01}
# Their shapes follow the values.
FREE_SHAPES = ("stroke_transformer", "sketch_fusion", "sketch_fusion_resnet34")
MILLIONS = {
    "stroke_transformer": 1.33,
    "net": 0.366,
    "vgg11": 61.0,
    "resnet18": 11.3,
    "resnet34": 21.5,
    "resnext50_32x4d": 23.7,
    "densenet121": 7.30,
    "mobilenet_v3_small": 1.87,
    "convnext_tiny": 28.1,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These networks are too small to share out: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawings(counts: list[int], side: int, seed: int = 0) -> Tensor:
    """Random drawings of so many points in the encoding `points`, uint8 [N, 3, side, side]."""
    rng = torch.Generator().manual_seed(seed)
    slots = torch.zeros(len(counts), 3, side * side, dtype=torch.uint8)
    for row, count in enumerate(counts):
        slots[row, :2, :count] = torch.randint(256, (2, count), generator=rng, dtype=torch.uint8)
        pens = torch.where(torch.rand(count, generator=rng) < 0.2, 255, 128)
        pens[:1] = 255
        slots[row, 2, :count] = pens.to(torch.uint8)
    return slots.view(len(counts), 3, side, side)


def inputs(name: str, n: int, channels: int, side_px: int) -> Tensor:
    if MODELS[name].reads == "picture":
        return torch.rand(n, channels, side_px, side_px)
    points = drawings([(7 * i) % 60 for i in range(n)], side_px).float() / 255
    return torch.cat((torch.rand(n, channels - 3, side_px, side_px), points), 1)


@pytest.mark.parametrize(("name", "channels"), DRAWN)
def test_twelve_drawings_get_twelve_rows_of_340_logits(name: str, channels: int) -> None:
    # The largest at half the side: what a side changes is tried for all of them below.
    side_px = 32 if name in LARGE else 64
    network = network_of(name, channels, 340, side_px).eval()
    with torch.inference_mode():
        logits = network(inputs(name, 12, channels, side_px))
    assert logits.shape == (12, 340)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name not in FREE_SHAPES])
@pytest.mark.parametrize("side_px", [24, 33, 64, 65, 224])
def test_every_side_fits(name: str, side_px: int) -> None:
    channels = max(MODELS[name].channels)
    with torch.device("meta"):  # shapes alone
        network = network_of(name, channels, 340, side_px)
        assert network(torch.rand(12, channels, side_px, side_px)).shape == (12, 340)


@pytest.mark.parametrize("name", [name for name in MILLIONS if name != "small_cnn"])
def test_a_network_weighs_what_its_row_says(name: str) -> None:
    with torch.device("meta"):
        network = network_of(name, 3, 340, 64)
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert count == pytest.approx(MILLIONS[name], rel=0.02)


@pytest.mark.parametrize("name", ["net", "resnet18"])
def test_the_report_s_size_gives_finite_logits(name: str) -> None:
    network = network_of(name, 1, 340, 224).eval()
    with torch.inference_mode():
        logits = network(torch.rand(12, 1, 224, 224))
    assert logits.shape == (12, 340)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_all_of_it_the_loss_falls_and_the_state_dict_tells_all(name: str) -> None:
    torch.manual_seed(0)
    network = network_of(name, MODELS[name].channels[0], 4, 24)
    for module in network.modules():
        if hasattr(module, "p"):  # dropout would hide a fall this short
            module.p = 0.0
    x, labels = inputs(name, 4, MODELS[name].channels[0], 24), torch.arange(4)
    optimizer = torch.optim.AdamW(network.parameters(), RATES.get(name, 1e-3), fused=True)
    losses: list[float] = []
    while not losses or losses[-1] > 0.9 * losses[0]:
        loss = functional.cross_entropy(network(x), labels)
        loss.backward()
        if not losses:
            for key, parameter in network.named_parameters():
                assert parameter.grad is not None, key
                assert torch.isfinite(parameter.grad).all(), key
                assert parameter.grad.any(), key
        losses.append(loss.item())
        assert len(losses) < 20, losses
        optimizer.step()
        optimizer.zero_grad()
    check_state_dict(name, network, x)


def check_state_dict(name: str, network: nn.Module, x: Tensor) -> None:
    """A network that is given its state dict, and had no values of its own, says the same."""
    with torch.device("meta"):
        other = network_of(name, x.shape[1], 4, x.shape[-1])
    other.load_state_dict(network.state_dict(), assign=True)
    with torch.inference_mode():
        assert torch.equal(network.eval()(x), other.eval()(x))


@pytest.mark.parametrize("name", STEMS)
def test_a_small_stem_keeps_more_of_a_small_picture_and_weighs_no_more(name: str) -> None:
    grids, weights = [], []
    for small in (False, True):
        with torch.device("meta"):
            network = network_of(name, 1, 5, 64, small_stem=small)
        weights.append(sum(parameter.numel() for parameter in network.parameters()))
        grids.append(halfway_side(network, torch.rand(2, 1, 64, 64, device="meta")))
    assert grids[1] >= 2 * grids[0]
    assert weights[1] <= weights[0]


def halfway_side(network: nn.Module, images: Tensor) -> int:
    """Side of what the middle one of the convolutions gives."""
    sides: list[int] = []

    def note(module: nn.Module, given: object, output: Tensor) -> None:
        sides.append(output.shape[-1])

    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
            module.register_forward_hook(note)
    network(images)
    return sides[len(sides) // 2]


def test_vgg11_s_small_stem_repeats_no_cell() -> None:
    with torch.device("meta"):
        network = network_of("vgg11", 1, 5, 64)
    assert network.get_submodule("classifier.0").in_features == 512 * 4 * 4
    assert isinstance(network.get_submodule("features.2"), nn.Identity)


@pytest.mark.parametrize("name", STEMS)
def test_the_stem_is_small_up_to_64_px_unless_told_otherwise(name: str) -> None:
    def stem(side_px: int, small_stem: bool | None) -> str:
        with torch.device("meta"):
            return str(network_of(name, 1, 2, side_px, small_stem=small_stem))

    assert stem(64, None) == stem(64, True) != stem(64, False)
    assert stem(96, None) == stem(96, False)


@pytest.mark.parametrize("small_stem", [False, True])
def test_a_fresh_vgg11_tells_drawings_apart(small_stem: bool) -> None:
    torch.manual_seed(0)
    network = network_of("vgg11", 1, 35, 32, small_stem=small_stem).eval()
    drawn = (torch.rand(16, 1, 32, 32) < 0.1).float()
    with torch.inference_mode():
        logits = network(drawn)
    # 0.002 as torchvision draws its weights, after which SGD stays at chance for long.
    assert logits.std(0).mean() > 0.05


@pytest.mark.parametrize(("channels", "kernel"), [(1, 7), (3, 3), (1, 3)])
def test_a_reinitialized_convolution_is_as_strong_as_the_one_it_replaces(
    channels: int, kernel: int
) -> None:
    torch.manual_seed(0)
    old = nn.Conv2d(3, 64, 7)
    nn.init.kaiming_normal_(old.weight, mode="fan_out")
    new = reinitialized_convolution(old, channels, kernel, 1, 0)
    with torch.inference_mode():
        before = old(torch.randn(16, 3, 32, 32)).std()
        after = new(torch.randn(16, channels, 32, 32)).std()
    assert float(after / before) == pytest.approx(1, rel=0.1)
    assert new.bias is not None
    assert not new.bias.any()


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet34' or 'resnet18'"):
        network_of("resnet", 1, 2, 32)


def test_points_and_pictures_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encodings.ENCODINGS, "four", Encoding(("a", "b", "c", "d"), "of no model"))

    def check(model: str, encoding: str) -> None:
        check_model(ModelConfig(name=model), ImageConfig(encoding=encoding))

    check("stroke_transformer", "points")
    check("net", "gray")
    check("sketch_fusion", "order_points")
    with pytest.raises(ConfigError, match=r"set image\.encoding=order_points, or a model that r"):
        check("sketch_fusion", "order")
    with pytest.raises(ConfigError, match="reads picture and points: sketch_fusion"):
        check("small_cnn", "order_points")
    with pytest.raises(
        ConfigError, match=r"set image\.encoding=points, or a model that reads pic"
    ):
        check("stroke_transformer", "order")
    with pytest.raises(ConfigError, match="or a model that reads points: stroke_transformer"):
        check("resnet18", "points")
    with pytest.raises(ConfigError, match="takes 1 or 3 channels, the encoding gives 4"):
        check("resnet18", "four")


@pytest.mark.parametrize(
    "name", [name for name, row in MODELS.items() if (row.least_px or 0) > 24]
)
def test_a_picture_too_small_for_the_usual_stem_is_refused(name: str) -> None:
    least = MODELS[name].least_px
    assert least is not None
    with pytest.raises(
        ConfigError, match=f"set image.side_px of {least} or more, or model.small_"
    ):
        network_of(name, 1, 2, least - 1, small_stem=False)
    with torch.device("meta"):
        network = network_of(name, 1, 2, least, small_stem=False)
        assert network(torch.rand(2, 1, least, least)).shape == (2, 2)
        with pytest.raises(RuntimeError):  # the least is the least
            network(torch.rand(2, 1, least - 1, least - 1))


@pytest.mark.parametrize("network_class", [partial(StrokeTransformer, 10), PointBranch])
def test_what_is_read_of_points_does_not_depend_on_padding_or_company(
    network_class: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    network = network_class().eval()
    counts = [0, 1, 2, 15, 16, 17, 45, 300]
    together, wider = drawings(counts, 24), drawings(counts, 32)
    with torch.inference_mode():
        expected = network(together.float() / 255)
        torch.testing.assert_close(network(wider.float() / 255), expected)
        for row, drawing in enumerate(together):
            alone = network(drawing[None].float() / 255)
            torch.testing.assert_close(alone[0], expected[row], atol=1e-5, rtol=1e-4)
    assert torch.isfinite(expected).all()


@pytest.mark.parametrize("network_class", [partial(StrokeTransformer, 10), PointBranch])
def test_empty_drawings_alone_give_finite_values_and_gradients(
    network_class: Callable[[], nn.Module],
) -> None:
    network = network_class()
    logits = network(torch.zeros(3, 3, 24, 24))
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("network_class", [partial(StrokeTransformer, 10), PointBranch])
def test_a_full_drawing_and_the_order_of_its_points_are_seen(
    network_class: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    network = network_class().eval()
    drawing = drawings([576], 24).float() / 255
    backwards = drawing.flatten(2).flip(2).view_as(drawing)
    joined = drawing.clone()
    joined[:, 2] = 128 / 255
    with torch.inference_mode():
        logits = [network(x) for x in (drawing, backwards, joined)]
    assert torch.isfinite(logits[0]).all()
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)


def test_the_tables_are_read_without_torchvision_and_no_global_figure_is_made(
    tmp_path: Path,
) -> None:
    code = (
        "import pathlib, sys, quickdraw_core.modeling.models, quickdraw_core.modeling.optimizers, "
        "quickdraw_core.modeling.losses, quickdraw_core.modeling.schedules, "
        "quickdraw_core.reporting.loss_figure\n"
        "print(*({'torchvision', 'matplotlib'} & set(sys.modules)))\n"
        "quickdraw_core.reporting.loss_figure.draw_loss_figure(pathlib.Path(sys.argv[1]))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [real_python(), "-c", code, str(tmp_path / "losses.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["", "False", ""]


@pytest.mark.parametrize("name", ["small_cnn", "stroke_transformer", "sketch_fusion"])
def test_a_network_is_exported_for_batches_of_any_size(name: str) -> None:
    torch.manual_seed(0)
    channels = MODELS[name].channels[-1]
    network = network_of(name, channels, 5, 24).eval()
    batch = torch.export.Dim("batch", min=1)
    example = inputs(name, 2, channels, 24)
    exported = torch.export.export(network, (example,), dynamic_shapes=({0: batch},)).module()
    for n in (1, 2, 5):
        images = inputs(name, n, channels, 24)
        with torch.inference_mode():
            torch.testing.assert_close(exported(images), network(images), atol=1e-4, rtol=1e-4)


def test_both_inputs_decide_what_a_fusion_says() -> None:
    torch.manual_seed(0)
    network = network_of("sketch_fusion", 6, 10, 24).eval()
    one, other = inputs("sketch_fusion", 12, 6, 24)[5:7].split(1)
    with torch.inference_mode():
        plain = network(one)
        for first, second in ((one, other), (other, one)):
            mixed = network(torch.cat((first[:, :3], second[:, 3:]), 1))
            assert not torch.allclose(mixed, plain, atol=1e-3)


def test_a_fusion_is_the_same_in_bf16_but_for_rounding() -> None:
    torch.manual_seed(0)
    network = network_of("sketch_fusion", 6, 10, 24).eval()
    images = inputs("sketch_fusion", 12, 6, 24)
    with torch.inference_mode():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(images).float()
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_weights_is_known_without_the_network(name: str) -> None:
    row = MODELS[name]
    for side, classes, small in ((32, 340, True), (64, 10, True), (128, 340, False)):
        with torch.device("meta"):
            network = row.build(row.channels[-1], classes, side, small)
        actual = sum(parameter.numel() for parameter in network.parameters())
        assert row.weights(classes, side, small) == pytest.approx(actual, rel=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_the_networks_own_or_the_one_asked_for(name: str) -> None:
    row = MODELS[name]
    encoding = next(key for key, other in encodings.ENCODINGS.items() if other.holds == row.reads)
    image = ImageConfig(encoding=encoding, side_px=32)

    def shares(dropout: float | None) -> set[float]:
        with torch.device("meta"):
            network = build_model(ModelConfig(name=name, dropout=dropout), image, 10)
        return {module.p for module in network.modules() if isinstance(module, nn.Dropout)}

    if row.dropout is None:
        assert shares(None) == set()
        with pytest.raises(ConfigError, match=r"set model\.dropout=none, or a model"):
            shares(0.4)
        assert shares(0) == set()
    else:
        assert shares(None) == {row.dropout}
        assert shares(0.4) == {0.4}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_training_leaves_out_one_branch_or_none(share: float) -> None:
    config = ModelConfig(name="sketch_fusion", branch_drop_share=share)
    image = ImageConfig(encoding="order_points", side_px=24)
    network: Any = build_model(config, image, 10)
    network.head = network.dropout = nn.Identity()
    images = inputs("sketch_fusion", 400, image.channels, 24)
    images = images[torch.arange(400) % 60 > 0]  # the others have no points
    torch.manual_seed(0)
    with torch.no_grad():
        kept = network(images).split(256, 1)
        whole = network.eval()(images).split(256, 1)
    lost = [1 - found.any(1).float().mean().item() for found in kept]
    assert lost == pytest.approx([share, share], abs=0.06)
    assert torch.cat(kept, 1).any(1).all()
    assert all(found.any(1).all() for found in whole)
