"""The best checkpoint of a run as a model of MLflow's, and getting ready for that.

torch is loaded here, and not before the ranks are on their way: they load it themselves, at the
same time.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quickdraw_core.errors import TrackingError
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.logged_model import log_model, warm_up
from quickdraw_core.training.checkpoint import Checkpoint, find_checkpoint, open_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

if TYPE_CHECKING:
    from quickdraw_core.bundling.graph import BundleMember
    from quickdraw_core.serving.bundle import BundleInfo

_EXPORTING = threading.Lock()
"""Networks are written as models one at a time: levels and streams by which torch's exporter is
silenced are the whole process's, and two that end in the wrong order would leave them so."""
_WARM = threading.Event()
"""Set if this process has written a model, or done all that getting ready takes."""


def log_best(run: RunFolder, pack: Pack, opened: Opened) -> list[str]:
    """Writes the best checkpoint as a model of MLflow's; returns what hindered it."""
    best = find_checkpoint(run.path, "best")
    if best is None:
        return []
    checkpoint = open_checkpoint(best, opened)
    try:
        with _EXPORTING:
            log_model(
                run.path,
                partial(_write_bundle, checkpoint, run, pack),
                key=checkpoint.weights_sha256,
                step=checkpoint.step,
                label_map_sha256=checkpoint.label_map.sha256,
            )
            _WARM.set()
    except TrackingError as error:
        return [str(error)]
    return []


@contextmanager
def warming_up(run: RunFolder, pack: Pack) -> Iterator[None]:
    """A block of a training beside which this process gets ready for `log_best`, in time that
    the ranks leave, so that nobody waits for that at its end.
    """
    ending = threading.Event()
    thread = threading.Thread(target=_warm_up, args=(run.config, pack, ending), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def _warm_up(config: TrainConfig, pack: Pack, ending: threading.Event) -> None:
    if sys.platform.startswith("linux"):  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
    with _EXPORTING, suppress(Exception):  # what is wrong, `log_best` says
        if _WARM.is_set():
            return
        for _ in _preparations(config, pack):
            if ending.is_set():
                return
        _WARM.set()


def _preparations(config: TrainConfig, pack: Pack) -> Iterator[None]:
    """What the first `log_best` of a process takes seconds for, piece by piece."""
    yield from warm_up()
    import onnxruntime  # noqa: F401

    from quickdraw_core.bundling.graph import BundleMember, graph_of
    from quickdraw_core.bundling.write import write_bundle  # noqa: F401
    from quickdraw_core.training.network import new_network

    yield
    _example(config, pack)
    yield
    network = new_network(config, len(pack.label_map)).eval()
    graph_of([BundleMember(network, config.model, config.image, config.model.flip_tta, "")])
    yield


def _write_bundle(checkpoint: Checkpoint, run: RunFolder, pack: Pack, folder: Path) -> None:
    """Writes a checkpoint as a bundle, and makes sure that it guesses as the checkpoint does."""
    from quickdraw_core.bundling.write import BundleFacts, write_bundle

    config = TrainConfig.parse(checkpoint.config)
    also = config.select.also_fingerprint
    facts = BundleFacts(
        run.path.name,
        checkpoint.label_map,
        checkpoint.store_fingerprint,
        () if also is None else (also,),
    )
    write_bundle(folder, [_member(checkpoint, config)], facts, _card)
    _require_same_guesses(folder, checkpoint, _example(config, pack))


def _member(checkpoint: Checkpoint, config: TrainConfig) -> "BundleMember":
    from quickdraw_core.bundling.graph import BundleMember
    from quickdraw_core.training.network import network_of

    network, _ = network_of(checkpoint)
    if config.model.flip_tta:
        network = network.network  # type: ignore[assignment]
    return BundleMember(
        network,
        config.model,
        config.image,
        config.model.flip_tta,
        checkpoint.weights_sha256,
        checkpoint.logit_adjustment,
    )


def _require_same_guesses(
    folder: Path, checkpoint: Checkpoint, images_nchw: npt.NDArray[np.uint8]
) -> None:
    """Raises `TrackingError` if the graph gives other probabilities than the network, for batches
    of one and of three.

    images_nchw: uint8 [2, C, S, S].
    """
    import torch

    from quickdraw_core.serving.bundle import open_bundle
    from quickdraw_core.serving.recognizer import BundleRecognizer
    from quickdraw_core.training.network import Uint8Input, network_of

    network = Uint8Input(network_of(checkpoint)[0])
    recognizer = BundleRecognizer(open_bundle(folder))
    for size in (1, 3):
        batch = np.concatenate([images_nchw, images_nchw])[:size]
        with torch.no_grad():
            expected = network(torch.from_numpy(batch)).float().log_softmax(1).exp().numpy()
        given = np.exp(recognizer.of_images([batch]))
        if not np.allclose(given, expected, atol=1e-3):
            raise TrackingError(f"its graph gives other probabilities for {size} images")


def _card(info: "BundleInfo") -> str:
    """The text for people in a bundle that no held-out drawings have judged."""
    return (
        f"# {info.name}\n\n"
        f"Recognizes drawings of {len(info.words)} words: "
        f"{info.image.side_px} px, encoding `{info.image.encoding}`.\n\n"
        "This is the best checkpoint of a training, as it was at the training's end; what it "
        "reaches on held-out drawings, `quickdraw evaluate` says. `quickdraw export` writes a "
        "model card with those numbers.\n"
    )


def _example(config: TrainConfig, pack: Pack) -> npt.NDArray[np.uint8]:
    """Two drawings as the network takes them: uint8 [2, C, S, S]."""
    from quickdraw_core.loading.loader import Feed, make_batch

    batch = make_batch(pack, np.arange(2), config.image.on_cpu, Feed())
    images: npt.NDArray[np.uint8] = batch.images_nchw.numpy()
    return images
