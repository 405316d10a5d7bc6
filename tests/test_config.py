import pytest
from pydantic import Field

from quickdraw_core.assignments import parse_assignments
from quickdraw_core.config import Config
from quickdraw_core.errors import ConfigError


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
