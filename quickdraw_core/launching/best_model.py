"""The best checkpoint of a run as a model of MLflow's, and getting ready for that.

torch is loaded here, and not before the ranks are on their way: they load it themselves, at the
same time.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt

from quickdraw_core.errors import TrackingError
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.logged_model import log_model, warm_up
from quickdraw_core.training.checkpoint import find_checkpoint, open_checkpoint
from quickdraw_core.training.config import TrainConfig
from quickdraw_core.training.run_folder import RunFolder

_EXPORTING = threading.Lock()
"""Networks are written as models one at a time: what silences torch's exporter meanwhile is the
whole process's, and two that end in the wrong order would leave it silent."""
_WARM = threading.Event()
"""Set where this process has written a model, or done all that `warm_up` does."""


def log_best(run: RunFolder, pack: Pack, opened: Opened) -> list[str]:
    """Writes the best checkpoint as a model of MLflow's; returns what hindered it."""
    best = find_checkpoint(run.path, "best")
    if best is None:
        return []
    from quickdraw_core.training.network import Uint8Input, network_of

    checkpoint = open_checkpoint(best, opened)
    network, config = network_of(checkpoint)
    try:
        with _EXPORTING:
            log_model(
                run.path,
                Uint8Input(network),
                _example(config, pack),
                key=checkpoint.weights_sha256,
                step=checkpoint.step,
                label_map=checkpoint.label_map,
                config=checkpoint.config,
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
        from quickdraw_core.training.network import Uint8Input, new_network, with_flip

        network = with_flip(new_network(config, len(pack.label_map)).eval(), config)
        for _ in warm_up(Uint8Input(network), _example(config, pack)):
            if ending.is_set():
                return
        _WARM.set()


def _example(config: TrainConfig, pack: Pack) -> npt.NDArray[np.uint8]:
    """Two drawings as the network takes them: uint8 [2, C, S, S]."""
    from quickdraw_core.loading.loader import Feed, make_batch

    batch = make_batch(pack, np.arange(2), config.image.on_cpu, Feed())
    images: npt.NDArray[np.uint8] = batch.images_nchw.numpy()
    return images
