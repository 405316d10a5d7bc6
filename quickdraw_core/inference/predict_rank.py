"""One of several processes that predict:
`python -m quickdraw_core.inference.predict_rank FOLDER RANK`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from quickdraw_core.errors import EvaluationError
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.inference.held_out import HeldOut
from quickdraw_core.inference.partial import pack_and_rows
from quickdraw_core.inference.predict import (
    DONE_NAME,
    choice_path,
    part_path,
    predict_rows,
    share_of,
)
from quickdraw_core.storage.location import location_of
from quickdraw_core.store.pack import open_pack
from quickdraw_core.store.store import Store
from quickdraw_core.system.parent_death import die_with_parent


def main() -> None:
    """Reads the job, predicts this process's share of it, and writes the predictions there."""
    die_with_parent()
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    job = json.loads((folder / "job.json").read_text("utf-8"))
    gpus = torch.cuda.device_count()
    models = load_models(
        job["models"],
        job["tracking_uri"],
        job["average"],
        job["tta"],
        rank % gpus if gpus else 0,
        job["precision"],
    )
    if models.digest != job["digest"]:
        raise EvaluationError(
            "a model changed while it was loaded, as that of a running training does; evaluate "
            "again, or give a checkpoint file"
        )
    pack = open_pack(Store.open(location_of(job["store"])))
    done = np.load(folder / DONE_NAME, mmap_mode="r+")  # the starting process reads it

    def advance(drawings: int) -> None:
        done[rank] += drawings

    for number in range(job["choices"]):
        with np.load(choice_path(folder, number)) as choice:
            mine = share_of(len(choice["rows"]), rank, job["ranks"], job["batch_size"])
            columns = {name: values[mine] for name, values in choice.items()}
        drawings = pack_and_rows(HeldOut(pack, short={}, **columns))
        predicted = predict_rows(models, *drawings, job["batch_size"], advance)
        predicted.write(part_path(folder, number, rank), {})


if __name__ == "__main__":
    main()
