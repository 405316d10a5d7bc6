"""A number does not depend on the processor: judging computes in float32 unless asked for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner
from unreported import evaluate_unreported

from quickdraw_core.cli import app
from quickdraw_core.errors import ConfigError
from quickdraw_core.evaluation.compare import prepare as prepare_comparison
from quickdraw_core.evaluation.config import CompareConfig, EvaluateConfig, HeldOutConfig
from quickdraw_core.evaluation.summary import compare_facts, evaluate_facts
from quickdraw_core.inference.cached_predictions import evaluated_predictions, read_if_same
from quickdraw_core.inference.ensemble import Ensemble, load_models
from quickdraw_core.inference.held_out import find_held_out
from quickdraw_core.inference.model import full_float32
from quickdraw_core.inference.predict import predict_rows
from quickdraw_core.inference.predictions import PREDICTIONS_NAME, Predictions
from quickdraw_core.inference.references import load_model
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.store.store import Store
from quickdraw_core.training.hardware import HardwareConfig, choose_arithmetic

JUDGED, BATCH = 20, 40
ISAS = {
    "SSE41": ("default", {"sse4_1"}),
    "AVX2": ("avx2", {"avx2"}),
    "AVX512_CORE": ("avx512", {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    "AVX512_CORE_BF16": ("avx512", {"avx512_bf16"}),
    "AVX512_CORE_AMX": ("avx512", {"amx_tile", "amx_bf16"}),
}
"""What oneDNN may use at most, by its own switch; the same for torch's kernels; and the flags of a
processor that has it."""


BF16_INSTRUCTIONS = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
"""Functions of `torch.cpu` that say whether the processor has instructions for bf16."""


def pretend(monkeypatch: pytest.MonkeyPatch, supported: set[str]) -> None:
    """Makes torch report exactly these instructions. Any processor can compute bf16."""
    for name in BF16_INSTRUCTIONS:
        monkeypatch.setattr(torch.cpu, name, lambda has=name in supported: has)


def predicted(reference: Path, pack: Pack, precision: str = "fp32") -> Predictions:
    models = load_models([str(reference)], precision=precision)
    return predict_rows(models, pack, pack.test_rows(JUDGED), BATCH).predictions


@pytest.fixture(scope="module")
def evaluations(
    trained: Path, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders of evaluations in either arithmetic, in bf16 by two processes."""
    folders = {}
    for precision, ranks in (("fp32", 1), ("bf16", 2)):
        folders[precision] = tmp_path_factory.mktemp(precision)
        values = {"model": str(trained), "store": store.path, "per_class": JUDGED}
        values |= {"tracking_uri": "none", "report_dir": folders[precision], "guesses": 0}
        values |= {"precision": precision, "ranks": ranks, "batch_size": BATCH}
        result = evaluate_unreported(EvaluateConfig.parse(values))
        assert result.precision == precision
        assert evaluate_facts(result)["computed in"] == precision
    return folders


def equal(one: Predictions, other: Predictions) -> bool:
    """Whether all numbers are the same to the last bit."""
    return bool(
        (one.guesses == other.guesses).all()
        and (one.probabilities == other.probabilities).all()
        and (one.label_log_probabilities == other.label_log_probabilities).all()
    )


def trained_in_bf16(trained: Path, folder: Path) -> Path:
    """The same weights in a checkpoint of a training that was asked to compute in bf16."""
    (path,) = list((trained / "checkpoints").glob("step-*.pt"))[-1:]
    values = torch.load(path, weights_only=True)
    values["config"]["model"]["precision"] = "bf16"
    torch.save(values, folder / "bf16.pt")
    values["config"]["model"]["precision"] = "auto"
    torch.save(values, folder / "auto.pt")
    return folder / "bf16.pt"


@pytest.mark.parametrize("instructions", BF16_INSTRUCTIONS)
def test_a_processor_that_multiplies_in_bf16_changes_no_number(
    instructions: str, trained: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, set())
    assert not choose_arithmetic(HardwareConfig(), "auto", "cpu").bf16
    before = predicted(trained, pack)
    pretend(monkeypatch, {instructions})
    assert choose_arithmetic(HardwareConfig(), "auto", "cpu").bf16, "training takes bf16 there"
    assert equal(predicted(trained, pack), before)


def test_what_a_model_was_trained_in_changes_no_number(
    trained: Path, pack: Pack, tmp_path: Path
) -> None:
    bf16 = trained_in_bf16(trained, tmp_path)
    assert load_model(str(bf16)).config.model.precision == "bf16"
    assert equal(predicted(bf16, pack), predicted(tmp_path / "auto.pt", pack))


def test_bf16_is_computed_where_it_is_asked_for(trained: Path, pack: Pack) -> None:
    full, half = predicted(trained, pack), predicted(trained, pack, "bf16")
    assert not equal(full, half)
    assert half.probabilities == pytest.approx(full.probabilities, abs=0.05)
    models = [load_models([str(trained)], precision=name) for name in ("fp32", "bf16")]
    assert models[0].digest != models[1].digest
    assert [found.precision for found in models] == ["fp32", "bf16"]
    names = [found.members[0].report_name for found in models]
    assert names == ["evaluation", "evaluation-bf16"]
    with pytest.raises(ConfigError, match="unknown precision 'fp16': did you mean"):
        load_model(str(trained), precision="fp16")
    with pytest.raises(ConfigError, match="precision"):
        EvaluateConfig.parse({"precision": "auto"})


def test_it_is_written_down_and_all_processes_compute_in_it(
    evaluations: dict[str, Path], trained: Path, pack: Pack
) -> None:
    for precision, folder in evaluations.items():
        value = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        left, facts = Predictions.read(folder / PREDICTIONS_NAME, pack.label_map)
        assert value["evaluated"]["precision"] == facts["precision"] == precision
        assert equal(left, predicted(trained, pack, precision))


def test_predictions_are_used_again_by_the_arithmetic_that_made_them_alone(
    evaluations: dict[str, Path], trained: Path, store: Store
) -> None:
    config = HeldOutConfig.parse({"store": store.path, "per_class": JUDGED})
    drawings = find_held_out(config, store, Opened())
    for asked in evaluations:
        model = load_model(str(trained), precision=asked)
        for made, folder in evaluations.items():
            models = Ensemble((model,))
            found = read_if_same(folder / PREDICTIONS_NAME, config, models, drawings)
            assert (found is not None) == (made == asked)
            left = evaluated_predictions(str(folder), config, drawings, Opened())
            assert left.precision == made


def test_predictions_of_an_unknown_arithmetic_are_read_and_not_used_again(
    evaluations: dict[str, Path], trained: Path, store: Store, tmp_path: Path
) -> None:
    """As an evaluation wrote them that recorded no arithmetic."""
    table = pq.read_table(evaluations["fp32"] / PREDICTIONS_NAME, partitioning=None)
    facts = {k: v for k, v in table.schema.metadata.items() if k != b"precision"}
    file = tmp_path / PREDICTIONS_NAME
    pq.write_table(table.replace_schema_metadata(facts), file, write_page_checksum=True)
    config = HeldOutConfig.parse({"store": store.path, "per_class": JUDGED})
    drawings = find_held_out(config, store, Opened())
    assert read_if_same(file, config, load_models([str(trained)]), drawings) is None
    left = evaluated_predictions(str(file), config, drawings, Opened())
    assert left.precision == "unknown"
    assert len(left.predictions) == 4 * JUDGED
    models = (str(file), str(evaluations["fp32"]), str(evaluations["bf16"]))
    values = {"models": models, "store": store.path, "per_class": JUDGED}
    result = prepare_comparison(CompareConfig.parse(values), Opened()).run()
    assert result.precisions == ("unknown", "fp32", "bf16")
    shown = compare_facts(result)["computed in"]
    assert shown.startswith("unknown (")
    assert "bf16 (" in shown


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_submission_says_what_it_was_computed_in(
    precision: str, trained: Path, csv_folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "probabilities.parquet"
    command = ["predict", str(trained), str(csv_folder / "sun.csv"), "--precision", precision]
    command += ["--out", str(tmp_path / "out.csv"), "--probabilities", str(kept)]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert f"computed in  {precision}\n" in said.output
    assert pq.read_schema(kept).metadata[b"precision"] == precision.encode()


def test_products_of_float32_are_rounded_to_nothing_shorter(trained: Path) -> None:
    """TF32, on GPUs, and what a program may have asked of all processors."""
    backends = torch.backends
    kernels = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.matmul)
    before = [kernel.fp32_precision for kernel in kernels]
    inside: list[str] = []

    def note(*_: object) -> None:
        inside.extend(kernel.fp32_precision for kernel in kernels)

    model = load_model(str(trained))
    backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        model.network.register_forward_hook(note)
        image = model.image
        shape = 1, image.channels, image.side_px, image.side_px
        model.logits(torch.zeros(shape, dtype=torch.uint8))
        assert backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        backends.mkldnn.matmul.fp32_precision = before[2]
    assert inside == ["ieee"] * 3
    with pytest.raises(RuntimeError), full_float32():
        raise RuntimeError
    assert [kernel.fp32_precision for kernel in kernels] == before


_PREDICT = """
import os, sys
isa, kernels, model, images, out = sys.argv[1:]
os.environ |= {"ONEDNN_MAX_CPU_ISA": isa, "ATEN_CPU_CAPABILITY": kernels, "ONEDNN_VERBOSE": "1"}
import numpy, torch
from quickdraw_core.inference.references import load_model
assert torch.backends.cpu.get_cpu_capability() == kernels.upper()
numpy.save(out, load_model(model).logits(torch.load(images)).softmax(1).numpy())
"""
"""Sets the switches itself: they are read when something is first computed, which a process that
was forked with torch imported has not done."""


@pytest.fixture(scope="module")
def by_isa(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What processes of each instruction set say of the same images: probabilities, and beside
    them, as `images.pt`, the images.
    """
    folder, image = tmp_path_factory.mktemp("isa"), load_model(str(trained)).image
    shape = (8, image.channels, image.side_px, image.side_px)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    torch.save(images.to(torch.uint8), folder / "images.pt")
    processes = {}
    for name in filter(has, ISAS):
        words = [name, ISAS[name][0], trained, folder / "images.pt", folder / f"{name}.npy"]
        processes[name] = subprocess.Popen(
            [sys.executable, "-c", _PREDICT, *map(str, words)], stdout=subprocess.PIPE, text=True
        )
    outputs = [process.communicate(timeout=300)[0] for process in processes.values()]
    assert {name: process.returncode for name, process in processes.items()} == dict.fromkeys(
        processes, 0
    )
    used = [re.findall(r"info,cpu,isa:(.*)", output) for output in outputs]
    assert len({*map(tuple, used)}) == len(processes), used
    return {name: folder / f"{name}.npy" for name in processes}


def has(name: str) -> bool:
    """Whether this processor has an instruction set."""
    info = Path("/proc/cpuinfo")
    return info.is_file() and ISAS[name][1] <= set(info.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", ISAS)
def test_instruction_sets_change_no_guess(
    name: str, by_isa: dict[str, Path], trained: Path
) -> None:
    """Against this process, which has all that the processor has."""
    if not has(name):
        pytest.skip(f"this processor has no {name}")
    images = torch.load(by_isa[name].with_name("images.pt"))
    here = load_model(str(trained)).logits(images).softmax(1).numpy()
    there = np.load(by_isa[name])
    assert (np.argsort(-there, 1) == np.argsort(-here, 1)).all()
    assert there == pytest.approx(here, abs=1e-5)
