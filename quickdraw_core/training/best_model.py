"""The best checkpoint of a run as a model of MLflow's."""

import threading

import numpy as np

from quickdraw_core.errors import TrackingError
from quickdraw_core.loading.loader import Feed, make_batch
from quickdraw_core.stage import Opened
from quickdraw_core.store.pack import Pack
from quickdraw_core.tracking.logged_model import log_model
from quickdraw_core.training.checkpoint import find_checkpoint, open_checkpoint
from quickdraw_core.training.run_folder import RunFolder
from quickdraw_core.training.state import OfBytes, network_of

_EXPORTING = threading.Lock()
"""Networks are written as models one at a time: what silences torch's exporter meanwhile is the
whole process's, and two that end in the wrong order would leave it silent."""


def log_best(run: RunFolder, pack: Pack, opened: Opened) -> list[str]:
    """Writes the best checkpoint as a model of MLflow's; returns what hindered it."""
    best = find_checkpoint(run.path, "best")
    if best is None:
        return []
    checkpoint = open_checkpoint(best, opened)
    network, config = network_of(checkpoint)
    example = make_batch(pack, np.arange(2), config.encoding, config.side_px, Feed())
    try:
        with _EXPORTING:
            log_model(
                run.path,
                OfBytes(network),
                example.images_nchw.numpy(),
                key=checkpoint.weights_sha256,
                step=checkpoint.step,
                label_map=checkpoint.label_map,
                config=checkpoint.config,
            )
    except TrackingError as error:
        return [str(error)]
    return []
