"""What a training left in its run folder: curve, samples, last checkpoint."""

import json
from pathlib import Path

from quickdraw_core.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint


def curve_of(run_dir: Path) -> dict[tuple[int, str], float]:
    """Loss and validation by (step, name); a point that stands twice is an error."""
    curve: dict[tuple[int, str], float] = {}
    for line in (run_dir / "journal.jsonl").read_text().splitlines():
        record = json.loads(line)
        for key, value in record.get("metrics", {}).items():
            if key == "train/loss" or key.startswith("validation/"):
                assert (record["step"], key) not in curve
                curve[record["step"], key] = value
    return curve


def samples_of(run_dir: Path) -> dict[tuple[int, int], list[int]]:
    """key_ids by (step, micro-batch); a step that was computed twice saw the same both times."""
    seen: dict[tuple[int, int], list[int]] = {}
    for path in (run_dir / "samples").glob("rank-*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # cut off by a kill, or the empty line after it
                continue
            place = (record["step"], record["micro_batch"])
            assert seen.setdefault(place, record["key_ids"]) == record["key_ids"]
    return seen


def last_of(run_dir: Path) -> Checkpoint:
    path = find_checkpoint(run_dir, "last")
    assert path is not None
    return load_checkpoint(path)
