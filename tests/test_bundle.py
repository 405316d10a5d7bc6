"""A bundle: whole or refused by name, and it guesses as its networks do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import session
import torch
from bundles import WORDS, made_bundle, member_of
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_core.bundling.graph import BundleMember, MeanOfMembers
from quickdraw_core.bundling.quantize import quantized_graph
from quickdraw_core.bundling.write import graphs_of
from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.errors import BundleError, ConfigError
from quickdraw_core.labels import LabelMap
from quickdraw_core.modeling.models import MODELS
from quickdraw_core.render.encodings import render
from quickdraw_core.serving.bundle import FORMAT, BundleInfo, open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer, top_guesses
from quickdraw_core.store.pack import Pack

LARGE = [name for name, row in MODELS.items() if row.weights(340, 32, True) > 1.6e6]


@pytest.fixture(scope="module")
def whole() -> Path:
    """A bundle. Not to be changed."""

    def make(folder: Path) -> str:
        made_bundle(folder / "bundle")
        return str(folder / "bundle")

    return Path(session.once("bundle", make))


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def drawings(pack: Pack) -> DrawingBatch:
    return pack.drawings.take(np.arange(0, len(pack.labels), 25))


def torch_log_probabilities(members: list[BundleMember], drawings: DrawingBatch) -> np.ndarray:
    each = []
    for member in members:
        images = torch.from_numpy(render(drawings, member.image))
        with torch.inference_mode():
            each.append(MeanOfMembers([member]).eval()(images))
    return torch.stack(each).exp().mean(0).log().numpy()


def check_parity(folder: Path, members: list[BundleMember], drawings: DrawingBatch) -> None:
    """A bundle of the members gives what they give together, in batches of several sizes."""
    recognizer = BundleRecognizer(made_bundle(folder, members))
    want = np.exp(torch_log_probabilities(members, drawings))
    got = recognizer.log_probabilities(drawings)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.exp(got), want, atol=1e-5)
    for rows in ([], [3], [0, 5]):
        few = recognizer.log_probabilities(drawings.take(np.array(rows, np.int64)))
        np.testing.assert_allclose(np.exp(few), want[rows], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in LARGE])
def test_each_network_guesses_in_a_bundle_as_in_torch(
    name: str, drawings: DrawingBatch, tmp_path: Path
) -> None:
    check_parity(tmp_path / "bundle", [member_of(name)], drawings)


@pytest.mark.soak
@pytest.mark.parametrize("name", LARGE)
def test_each_large_network_guesses_in_a_bundle_as_in_torch(
    name: str, drawings: DrawingBatch, tmp_path: Path
) -> None:
    member = member_of(name, side_px=32, flip_tta=True)
    check_parity(tmp_path / "bundle", [member], drawings)


def test_an_ensemble_with_flip_tta_is_one_graph(drawings: DrawingBatch, tmp_path: Path) -> None:
    members = [member_of(seed=1, flip_tta=True), member_of(seed=2)]
    check_parity(tmp_path / "bundle", members, drawings)
    info = open_bundle(tmp_path / "bundle").info
    assert [graph.file for graph in info.graphs] == ["model.onnx"]
    assert (info.members, info.flip_tta) == (2, True)


def test_members_that_read_different_images_have_a_graph_each(
    drawings: DrawingBatch, tmp_path: Path
) -> None:
    members = [member_of(seed=1), member_of(side_px=32, encoding="gray"), member_of(seed=3)]
    check_parity(tmp_path / "bundle", members, drawings)
    info = open_bundle(tmp_path / "bundle").info
    assert [(graph.file, graph.members) for graph in info.graphs] == [
        ("model-0.onnx", 2),
        ("model-1.onnx", 1),
    ]
    assert [network.graph for network in info.networks] == [0, 1, 0]


@pytest.mark.parametrize("name", ["stroke_transformer", "small_cnn", "sketch_fusion"])
def test_a_network_in_integers_of_8_bits_is_smaller_and_guesses_nearly_alike(
    name: str, drawings: DrawingBatch, tmp_path: Path
) -> None:
    member = member_of(name)
    [(file, graph)] = graphs_of([member]).items()
    small = quantized_graph(graph, member.image, render(drawings, member.image))
    assert len(small) < len(graph) / 2
    whole, quantized = (
        np.exp(BundleRecognizer(bundle).log_probabilities(drawings))
        for bundle in (
            made_bundle(tmp_path / "whole", [member]),
            made_bundle(tmp_path / "small", [member], graphs={file: small}),
        )
    )
    np.testing.assert_allclose(quantized, whole, atol=0.05)
    assert not np.array_equal(quantized, whole)


def test_weights_are_those_of_the_network(whole: Path) -> None:
    from safetensors.torch import load_file

    saved, network = load_file(whole / "model.safetensors"), member_of().network
    assert saved.keys() == network.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in network.state_dict().items())


def test_a_bundle_says_what_it_is(whole: Path) -> None:
    bundle = open_bundle(whole)
    assert bundle.label_map == LabelMap(WORDS)
    assert bundle.info.image == member_of().image
    assert BundleInfo.parse(bundle.info.model_dump(mode="json")) == bundle.info
    assert {*bundle.info.files, "bundle.json"} == {path.name for path in whole.iterdir()}


@given(data=st.data())
def test_a_byte_changed_anywhere_is_refused_by_the_files_name(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path_factory.mktemp("changed") / "bundle"))
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    with pytest.raises(BundleError, match=file.name):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "README.md", "bundle.json"])
def test_a_file_cut_short_or_missing_is_refused_by_name(name: str, copied: Path) -> None:
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[:-9])
    with pytest.raises(BundleError, match=rf"cut short.*{name}|{name}.*own digest"):
        open_bundle(copied)
    (copied / name).unlink()
    with pytest.raises(BundleError, match=rf"(lacks|has no) {name}"):
        open_bundle(copied)


def rewrite(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Changes `bundle.json` and gives it a digest that fits, as a foreign program would."""
    from quickdraw_core.serving.bundle import _digest

    values = json.loads((folder / "bundle.json").read_text())
    values.pop("sha256")
    change(values)
    (folder / "bundle.json").write_text(json.dumps({**values, "sha256": _digest(values)}))


def sized(values: Any, size: int) -> None:
    values["files"]["model.onnx"]["size_bytes"] = size


REFUSED = {
    "a size below none": (lambda v: sized(v, -5), "size_bytes"),
    "a size beyond all": (lambda v: sized(v, 10**17), "cut short"),
    "a later format": (lambda v: v.update(format=FORMAT + 1), r"format 2.*install a newer one"),
    "no format": (lambda v: v.pop("format"), "names no format"),
    "a format that is no number": (lambda v: v.update(format="one"), "names no format"),
    "other words": (lambda v: v.update(words=["a", "b", "c", "d"]), "label map"),
    "words out of order": (lambda v: v.update(words=["b", "a"]), "sorted"),
    "an unknown key": (lambda v: v.update(pickled=True), "pickled"),
    "a missing key": (lambda v: v.pop("graphs"), "graphs"),
    "a graph that is no file": (lambda v: v["graphs"][0].update(file="other.onnx"), "other.onnx"),
    "a file outside": (lambda v: v["files"].update({"../a": v["files"]["README.md"]}), "../a"),
    "fewer classes": (
        lambda v: v.update(words=["a"], label_map_sha256=LabelMap(("a",)).sha256),
        "gives 4 classes.* give 1",
    ),
    "images of another size": (lambda v: v["graphs"][0]["image"].update(side_px=28), "28, 28"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(
    change: Callable[[dict[str, object]], object], said: str, copied: Path
) -> None:
    rewrite(copied, change)
    with pytest.raises(BundleError, match=said):
        BundleRecognizer(open_bundle(copied))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\ud800", '{"format": 1}'])
def test_an_info_of_anything_else_is_refused(text: str, copied: Path) -> None:
    (copied / "bundle.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(copied)


def test_added_files_are_refused_but_for_hidden_ones(copied: Path) -> None:
    (copied / ".gitattributes").touch()
    open_bundle(copied)
    (copied / "notes.txt").touch()
    with pytest.raises(BundleError, match=r"notes\.txt"):
        open_bundle(copied)


def test_a_folder_of_something_else_is_no_bundle_and_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BundleError, match="is no bundle"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match="is no bundle"):
        open_bundle(tmp_path / "missing")
    with pytest.raises(ConfigError, match="is no bundle"):
        made_bundle(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_bundle_is_replaced_whole(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = open_bundle(copied).info
    made_bundle(copied, [member_of(seed=2)])
    assert open_bundle(copied).info.weights_sha256 != old.weights_sha256
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]

    def fail(*values: object, **options: object) -> None:
        raise OSError("no space")

    before = open_bundle(copied).info
    monkeypatch.setattr("quickdraw_core.bundling.write.open_atomic", fail)
    with pytest.raises(OSError, match="no space"):
        made_bundle(copied, [member_of(seed=3)])
    assert open_bundle(copied).info == before
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_what_a_killed_export_left_is_put_back_or_deleted(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_bundle(copied).info
    copied.rename(copied.with_name(".bundle.0123abcd.old"))
    shutil.copytree(
        copied.with_name(".bundle.0123abcd.old"), copied.with_name(".bundle.0123abcd.tmp")
    )
    with monkeypatch.context() as patch:
        patch.setattr("quickdraw_core.bundling.write._replace", lambda folder, files: None)
        made_bundle(copied, [member_of(seed=2)])
    assert open_bundle(copied).info == before
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_guesses_are_the_most_probable_words_and_ties_go_to_the_first() -> None:
    log_probabilities = np.log(np.array([[0.1, 0.4, 0.1, 0.4]], np.float32))
    ((first, second, third),) = top_guesses(log_probabilities, LabelMap(WORDS))
    assert [first.word, second.word, third.word] == ["ice cream", "sun", "envelope"]
    assert first.probability == pytest.approx(0.4)
    assert len(top_guesses(log_probabilities, LabelMap(WORDS), 10)[0]) == len(WORDS)
