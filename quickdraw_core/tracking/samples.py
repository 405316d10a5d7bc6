"""Which drawings a rank was trained on, step by step, to compare two runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quickdraw_core.loading.loader import Batch

SAMPLES_NAME = "samples"


def recorded(
    batches: Iterator["Batch"], run_dir: Path, rank: int, start_step: int, parts: int
) -> Iterator["Batch"]:
    """Passes batches on, and appends a line for each to `RUN/samples/rank-<rank>.jsonl`:
    `{"step", "micro_batch", "key_ids"}`, the step from 0, the micro-batch's number in the global
    batch. A run that goes on from a checkpoint comes by some steps twice; so do the lines.
    """
    path = run_dir / SAMPLES_NAME / f"rank-{rank}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        if file.tell():
            file.write("\n")  # ends a line that a kill cut off; an empty one means nothing
        for number, batch in enumerate(batches):
            step, part = divmod(number, parts)
            record = {
                "step": start_step + step,
                "micro_batch": rank * parts + part,
                "key_ids": batch.key_ids_n.tolist(),
            }
            file.write(json.dumps(record) + "\n")
            file.flush()
            yield batch
