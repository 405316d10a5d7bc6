"""What a training has cost, by its journal: time, speed, and energy if the machine measures it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from quickdraw_core.tracking.journal import JOURNAL_NAME, Record, follow

_SPEED = "train/images_per_second"
_POWER = "_power_usage_watts"
_TAG = "cost."


@dataclass(frozen=True)
class Cost:
    """seconds: of all attempts, with validations. images_per_second: the median over the run.
    energy_joules: of processors and GPUs that report their power. None: not recorded.
    """

    seconds: float | None = None
    images_per_second: float | None = None
    energy_joules: float | None = None


def read_cost(run_dir: Path) -> Cost:
    """The cost of the run of a folder."""
    return cost_of(follow(run_dir / JOURNAL_NAME, 0)[0])


def cost_of(records: Sequence[Record]) -> Cost:
    """The cost of a run, by the records of its journal."""
    speeds = [metrics[_SPEED] for metrics in map(_metrics, records) if _SPEED in metrics]
    return Cost(
        training_seconds(records) or None,
        median(speeds) if speeds else None,
        sum(_energies(records)) or None,
    )


def cost_tags(cost: Cost) -> dict[str, str]:
    """As tags of an MLflow run, of what is known."""
    values = asdict(cost).items()
    return {f"{_TAG}{name}": f"{value:.1f}" for name, value in values if value is not None}


def cost_of_tags(tags: Mapping[str, str]) -> Cost:
    """What `cost_tags` made tags of."""
    known = {name: tags.get(f"{_TAG}{name}") for name in Cost.__dataclass_fields__}
    return Cost(**{name: float(text) for name, text in known.items() if text is not None})


def training_seconds(records: Sequence[Record]) -> float:
    """Seconds of all training attempts in a journal.

    An attempt begins with the status RUNNING and ends with another status, or if it was killed
    with its last record. What an evaluation added later does not count.
    """
    total_ms, begun, last = 0, None, 0
    for record in records:
        status = record.get("status")
        if status == "RUNNING":
            total_ms += last - begun if begun is not None else 0
            begun = last = record["time_ms"]
        elif begun is not None and "time_ms" in record and not record.get("again"):
            last = record["time_ms"]
            if status is not None:
                total_ms, begun = total_ms + last - begun, None
    return (total_ms + (last - begun if begun is not None else 0)) / 1_000


def _energies(records: Sequence[Record]) -> Iterator[float]:
    """Joules between two samples of the machine: the power of the later one, times the time."""
    before_ms: int | None = None
    for record in records:
        if record.get("status") == "RUNNING":
            before_ms = record["time_ms"]
        watts = [value for name, value in _metrics(record).items() if name.endswith(_POWER)]
        if watts and before_ms is not None:
            yield sum(watts) * (record["time_ms"] - before_ms) / 1_000
            before_ms = record["time_ms"]


def _metrics(record: Record) -> Mapping[str, float]:
    metrics = record.get("metrics")
    return metrics if isinstance(metrics, dict) else {}
