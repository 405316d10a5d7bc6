"""A small sweep, for the tests of sweeps."""

from pathlib import Path

from quickdraw_core.stage import Opened
from quickdraw_core.sweep.config import SweepConfig
from quickdraw_core.sweep.plan import Sweep
from quickdraw_core.sweep.run import prepare


def open_sweep(config: SweepConfig) -> Sweep:
    """A sweep of which no row has begun."""
    return prepare(config, Opened()).begin()


TINY = """
description = "Three trainings of a second."
[values]
model = "net"
image = { encoding = "gray", side_px = 24 }
augment.mirror_share = 0.0
epochs = 2
hardware.ranks = 1
global_batch_size = 32
micro_batch_size = 32
tracking.log_every_steps = 1
validation.every_steps = 10

[[rows]]
name = "Right"
reported = 0.9
[[rows]]
name = "Reciprocal"
reported = 0.5
values = { loss = "softmax_reciprocal", optimizer.learning_rate = 0.001 }
[[rows]]
name = "No log"
shown_as_failed = true
values = { loss = "nll_without_log" }
"""


def table_file(folder: Path, text: str) -> str:
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)
