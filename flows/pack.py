"""Store → flat arrays on disk, which training and evaluation read."""

from flows.stages import StageTask
from quickdraw_core.store.packing import PACK_STAGE

pack_stage = StageTask(PACK_STAGE, "Builds the pack of a store, where it is not there.")
