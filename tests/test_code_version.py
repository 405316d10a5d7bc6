"""What counts as another version of the code, and what does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

import pytest

from quickdraw_core.metrics.metrics import Estimate
from quickdraw_core.outputs import note_outputs, result_of_outputs
from quickdraw_core.system import code_version as module
from quickdraw_core.system.code_version import code_version, package_version

SOURCE = '"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 1\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one module, in the place of ours."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.py").write_text(SOURCE)
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    return tmp_path / "part" / "a.py"


def versions(package: Path, source: str) -> tuple[str, str]:
    code_version.cache_clear()
    package_version.cache_clear()
    package.write_text(source)
    found = code_version("part"), package_version()
    code_version.cache_clear()
    package_version.cache_clear()
    return found


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        (("x + 1", "x + 2"), True),
        (("def f(x)", "def f(x=0)"), True),
        (('"""Doc."""\n    return', '"""Other words."""\n    return'), False),
        (('"""Doc."""\n    return', "return"), False),
        (("return x + 1", "return x + 1  # why"), False),
        (("return x + 1", "return (\n        x + 1\n    )"), False),
    ],
)
def test_only_what_is_computed_counts(
    package: Path, change: tuple[str, str], is_another: bool
) -> None:
    before, after = versions(package, SOURCE), versions(package, SOURCE.replace(*change))
    assert (before[0] != after[0]) == is_another
    assert before[1] != after[1]


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        code_version("loading/nothing.py")


@dataclass(frozen=True)
class Result:
    """What a stage may say of itself."""

    scores: Mapping[str, Estimate]
    report: Path
    page: str | None = None


RESULT = Result({"log_loss": Estimate(inf, 0.1, inf, 3)}, Path("/a/report.html"))


@pytest.mark.parametrize("fault", ["deleted", "changed", "other", "never noted"])
def test_outputs_hold_only_where_all_of_them_are_whole(tmp_path: Path, fault: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text("made")
    if fault != "never noted":
        note_outputs(tmp_path, "asked", [file], RESULT)
        assert result_of_outputs(tmp_path, "asked", Result) == RESULT
    if fault == "deleted":
        file.unlink()
    elif fault == "changed":
        file.write_text("mad!")
    asked = "other" if fault == "other" else "asked"
    assert result_of_outputs(tmp_path, asked, Result) is None
