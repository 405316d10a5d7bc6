from pathlib import Path

import pytest
from pydantic import Field

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.training.config import TrainConfig


class Inner(Config):
    shear: float = Field(0.1, ge=0, description="slant")


class Outer(Config):
    epochs: int = Field(3, ge=1, description="passes")
    name: str = "cat"
    inner: Inner = Inner()


def test_assignments_nest_and_read_json() -> None:
    changes = parse_assignments(["inner.shear=0.5", "epochs=7", "name=hot dog"])
    assert changes == {"inner": {"shear": 0.5}, "epochs": 7, "name": "hot dog"}
    changed = Outer().updated(changes)
    assert (changed.epochs, changed.name, changed.inner.shear) == (7, "hot dog", 0.5)
    assert Outer().epochs == 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", r"unknown option 'epoch': did you mean 'epochs'\?"),
        ("inner.shaer=1", r"unknown option 'inner\.shaer': did you mean 'shear'\?"),
        ("epochs=0", r"option 'epochs': .*greater than or equal to 1, found 0"),
        ("epochs=many", r"option 'epochs': .*valid integer.*found 'many'"),
        ("epochs", r"--set takes key=value, found 'epochs'"),
    ],
)
def test_a_wrong_option_is_one_line_that_helps(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Outer().updated(parse_assignments([assignment]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=true", "option 'epochs': must be a number, found true"),
        ("epochs=Infinity", "option 'epochs': Input should be a finite number"),
        ("learning_rate=NaN", "option 'learning_rate': Input should be"),
        ("epochs=1e400", "option 'epochs': Input should be a finite number"),
        ("seed=9223372036854775808", "option 'seed': Input should be less than"),
        ("seed=-1", "option 'seed': Input should be greater than or equal to 0"),
        ("seed=1.5", "option 'seed': Input should be a valid integer"),
        ("epochs=1,5", "option 'epochs': Input should be a valid number"),
        ("mirror=2", "option 'mirror': Input should be a valid boolean"),
        ("patience=0", "option 'patience': Input should be greater than or equal to 1"),
        ("timeout_seconds=5m", "option 'timeout_seconds': Input should be a valid integer"),
    ],
)
def test_what_would_mean_something_else_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.parse({"store": "s"}).updated(parse_assignments([assignment]))


@pytest.mark.parametrize("none", ["none", "None", "NULL", "null"])
def test_none_is_no_value_where_there_may_be_none(none: str) -> None:
    names = ("run_dir", "patience", "augment", "pretrained", "clip_norm")
    changes = parse_assignments(f"{name}={none}" for name in names)
    config = TrainConfig.parse({"store": "s", "run_dir": "r", "patience": 3}).updated(changes)
    assert all(getattr(config, name) is None for name in names)
    asked = TrainConfig.parse({"store": "s", "tracking_uri": none})
    assert asked.tracking_uri == "none"
    assert TrainConfig.parse({"store": "s", "run_dir": "./none/x"}).run_dir == Path("none/x")


@pytest.mark.parametrize(
    "rows", ["head:\u0663", "head:1_000", "head:1e3", "head:-5", "spread:2X5"]
)
def test_rows_in_other_spellings_are_refused(rows: str) -> None:
    with pytest.raises(ConfigError, match="rows must be all"):
        IngestConfig.parse({"source": "x", "rows": rows})
