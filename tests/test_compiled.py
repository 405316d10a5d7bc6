"""Compiled code is kept, and made anew when anything changes that went into it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError

from quickdraw_core.system.compiled import compiled

INNER = """
from quickdraw_core.system.compiled import compiled

@compiled()
def inner(x):
    return x + {}
"""
OUTER = """
from top.kernels.inner import inner
from quickdraw_core.system.compiled import compiled

@compiled()
def outer(x):
    return 10 * inner(x)
"""
CALL = """
from top.kernels.{} import *
print(outer({}), sum(outer.stats.cache_hits.values()))
"""


def call(folder: Path, module: str, arguments: str = "1") -> str:
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", CALL.format(module, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}:{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["outer", "deeper.outer"])
def test_what_is_compiled_into_a_function_may_not_be_older_than_its_source(
    tmp_path: Path, module: str
) -> None:
    kernels = tmp_path / "top" / "kernels"
    outer = (kernels / module.replace(".", "/")).with_suffix(".py")
    outer.parent.mkdir(parents=True)
    for package in {kernels.parent, kernels, outer.parent}:
        (package / "__init__.py").touch()
    (kernels / "inner.py").write_text(INNER.format(1))
    outer.write_text(OUTER)
    assert call(tmp_path, module) == "20 0"
    assert call(tmp_path, module) == "20 1"
    (kernels / "inner.py").write_text(INNER.format(2))
    os.utime(kernels / "inner.py", (0, 0))  # another second, by which Python tells sources apart
    assert call(tmp_path, module) == "30 0"
    assert call(tmp_path, module) == "30 1"


def test_compiled_code_that_names_a_module_of_before_is_made_anew(tmp_path: Path) -> None:
    kernels = tmp_path / "top" / "kernels"
    kernels.mkdir(parents=True)
    for package in (kernels.parent, kernels):
        (package / "__init__.py").touch()
    inner = "from typing import NamedTuple\nclass Pair(NamedTuple):\n    a: int\n    b: int\n"
    inner += INNER.format(1).replace("return x", "return Pair(x, x).a")
    given = OUTER.replace("outer(x)", "outer(given, x)").replace("* inner(x)", "* given(x)")
    (kernels / "inner.py").write_text(inner)
    (kernels / "outer.py").write_text(given)
    assert call(tmp_path, "outer", "inner, 1") == "20 0"
    (kernels / "inner.py").rename(kernels / "moved.py")
    (kernels / "outer.py").write_text(given.replace("kernels.inner", "kernels.moved"))
    os.utime(kernels / "outer.py", (0, 0))  # another second, by which Python tells sources apart
    assert call(tmp_path, "outer", "inner, 1") == "20 0"


@compiled(allocates=True)
def _twice(values):  # type: ignore[no-untyped-def]
    doubled = np.empty_like(values)
    for k in range(len(values)):
        doubled[k] = 2 * values[k]
    return doubled


@compiled()
def _made_without_saying_so(values):  # type: ignore[no-untyped-def]
    return np.empty_like(values)


def test_only_a_function_that_says_so_makes_arrays() -> None:
    assert _twice(np.arange(3)).tolist() == [0, 2, 4]
    with pytest.raises(TypingError, match="Only accept returning of array passed"):
        _made_without_saying_so(np.arange(3))
