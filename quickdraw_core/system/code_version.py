"""Which version of the code made something: a digest of the modules that decide it.

Comments, docstrings and layout do not count: they change nothing that comes out.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def code_version(*names: str) -> str:
    """A short digest of modules and packages of `quickdraw_core`, by their paths in it.

    names: `loading` (a package, with all beneath it) or `store/pack.py` (a module).
    Raises `FileNotFoundError` for a name that is neither.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        path = _ROOT / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(_ROOT).as_posix()}\n".encode())
            digest.update(_syntax_of(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:12]


def version_of_each(*names: str) -> dict[str, str]:
    """The digest of each package that `names` are, or are modules of: package → `code_version`.
    A module outside of packages is one by itself.
    """
    packages: dict[str, list[str]] = {}
    for name in sorted(names):
        packages.setdefault(name.partition("/")[0].removesuffix(".py"), []).append(name)
    return {package: code_version(*parts) for package, parts in packages.items()}


@cache
def package_version() -> str:
    """A short digest of every source file of `quickdraw_core`, to the byte."""
    digest = hashlib.sha256()
    for file in sorted(_ROOT.rglob("*.py")):
        digest.update(f"{file.relative_to(_ROOT).as_posix()}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _syntax_of(source: str) -> str:
    """A module's syntax tree as text, without docstrings and line numbers."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
