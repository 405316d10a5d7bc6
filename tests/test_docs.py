"""The code in the documentation runs, its links lead somewhere, its index names every command."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from pydantic import BaseModel

from quickdraw_core.cli import app
from quickdraw_core.commands import models
from quickdraw_core.formats.detect import TRAIN_COLUMNS
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.training.config import TrainConfig

from writers import csv_line, random_rows  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
TYPED = re.compile(
    r"(?P<launcher>(?:srun|sbatch)(?: +-\S+)* +)?"
    r"(?:quickdraw (?P<command>train|sweep)|infra/slurm/train\.sh) (?P<options>.*)"
)
"""A command of a training or a sweep, as a page has it typed."""
BLOCKS = [
    pytest.param(block, id=f"{path.name} {number}")
    for path in sorted((ROOT / "docs").glob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.S))
]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


def broken_links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield f"{page.relative_to(ROOT)}: {link}"


def test_links_lead_to_pages_and_headings() -> None:
    assert [link for page in PAGES for link in broken_links(page)] == []


def test_the_index_names_every_command() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    names = [made.name or made.callback.__name__ for made in app.registered_commands]  # type: ignore[union-attr]
    missing = [name for name in names if f"quickdraw {name.replace('_', '-')}" not in index]
    assert missing == []


def test_options_of_a_training_exist() -> None:
    """Those of `--set`, and those that the page's tables name with their group."""
    text = (ROOT / "docs" / "training.md").read_text()
    names = {name for name in re.findall(r"--set ([a-z_.]+)=", text) if name != "key"}
    names |= set(re.findall(r"`((?!torch)[a-z]+\.[a-z_]+)[`=]", text))
    assert "optimizer.learning_rate" in names
    assert [name for name in sorted(names) if not is_option(TrainConfig, name)] == []


def is_option(config: type[BaseModel], name: str) -> bool:
    first, _, rest = name.partition(".")
    field = config.model_fields.get(first)
    if field is None or not rest:
        return field is not None
    kinds = get_args(field.annotation) or (field.annotation,)
    groups = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return any(is_option(group, rest) for group in groups)


def typed_lines(page: Path) -> Iterator[str]:
    """The lines of a page's blocks of code, or of a script's comments, without their indentation;
    those that go on after a backslash as one.
    """
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^# {5,}(.*)$" if page.suffix == ".sh" else r"^ {4,}(.*)$", text, re.M)
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.S | re.M):
        lines += block.splitlines()
    return (line.strip() for line in lines)


# A line with a part in brackets or left out is how a command is called, not what is typed.
COMMANDS = [
    pytest.param(found, id=f"{page.name}: {found.group()[:60]}")
    for page in (*PAGES[:1], *sorted((ROOT / "docs").glob("*.md")), ROOT / "infra/slurm/train.sh")
    for line in typed_lines(page)
    if (found := TYPED.match(line)) and not re.search(r"\[|…", line)
]


def test_there_are_commands_of_each_kind_to_try() -> None:
    launchers = {(typed.values[0]["launcher"] or "").partition(" ")[0] for typed in COMMANDS}
    assert launchers == {"", "srun", "sbatch"}
    commands = {typed.values[0]["command"] for typed in COMMANDS}
    assert commands == {"train", "sweep", None}
    assert sum("--nnodes" in typed.values[0]["options"] for typed in COMMANDS) >= 4


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_documented_training_or_sweep_is_not_refused_for_its_options(
    typed: re.Match[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where it would read the store."""
    parsed: list[Any] = []

    def ends(config: Any) -> Any:
        parsed.append(config)
        raise typer.Exit

    monkeypatch.setattr(models, "run_stage", lambda _, config, __: ends(config))
    monkeypatch.setattr(models, "_show_plan", lambda config, _: ends(config))
    monkeypatch.setattr("quickdraw_core.sweep.run.prepare", lambda config, _: ends(config))
    if typed["launcher"]:
        nodes = re.search(r"--nodes=(\d+)", typed["launcher"])
        assert nodes is not None
        step = dict.fromkeys(("SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"), nodes[1])
        step |= dict.fromkeys(("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES"), nodes[1])
        step |= dict.fromkeys(("SLURM_STEP_ID", "SLURM_NODEID", "SLURM_PROCID"), "0")
        for name, value in (step | {"SLURM_STEP_NODELIST": f"n[1-{nodes[1]}]"}).items():
            monkeypatch.setenv(name, value)
    options = shlex.split(typed["options"], comments=True)
    words = [typed["command"] or "train", *("report" if o == "TABLE" else o for o in options)]
    typer.main.get_command(app).main(words, standalone_mode=False)
    assert parsed or "--list" in words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train_simplified` and `store`, as the documentation calls them."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "train_simplified").mkdir()
    for seed, word in enumerate(("cat", "sun")):
        lines = map(csv_line, random_rows(np.random.default_rng(seed), 60, word))
        text = (",".join(TRAIN_COLUMNS) + "\n").encode() + b"".join(lines)
        (folder / "train_simplified" / f"{word}.csv").write_bytes(text)
    ingest(IngestConfig(source=(str(folder / "train_simplified"),), store=folder / "store"))
    return folder


def test_there_is_code_to_try() -> None:
    assert {"duckdb", "polars", "pandas", "scan"} <= {
        name for block in BLOCKS for name in re.findall(r"\w+", block.values[0])
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_of_the_documentation_runs(
    block: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    exec(block, {})
