"""A store's `README.md`: the dataset card, as Hugging Face's hub and `datasets` read it. Pure.

YAML between two lines of dashes, then Markdown (https://huggingface.co/docs/hub/datasets-cards).
`configs` in the YAML name the files, so that `load_dataset` finds them: all drawings by default,
and one word's by its name. All of it is one split, `drawings`, since the split of a drawing
follows from its `key_id`, and a split called `train` would hold the held-out drawings too.
"""

from collections import Counter
from typing import Any

import yaml

from quickdraw_core.dataset_card.content import LICENCE, SOURCE, CardContent, SplitCounts
from quickdraw_core.dataset_card.croissant import COLUMNS, FILES
from quickdraw_core.errors import first_few
from quickdraw_core.labels import underscored
from quickdraw_core.storage.urls import scheme_of
from quickdraw_core.store.manifest import CARD_MARK, SourceRecord
from quickdraw_core.store.schema import SCHEMA

SPLIT = "drawings"
_DEFAULT = "default"
_SIZES = {
    "n<1K": 1_000,
    "1K<n<10K": 10_000,
    "10K<n<100K": 100_000,
    "100K<n<1M": 1_000_000,
    "1M<n<10M": 10_000_000,
}
_FORMS = {
    "csv": "CSV in the form of Kaggle's challenge",
    "ndjson": "ndjson in Google's form",
    "binary": "Google's binary form",
}


def readme(content: CardContent) -> str:
    """The text of `README.md`."""
    front = yaml.safe_dump(_front_matter(content), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---",
        f"# {content.title}",
        describe(content),
        f"Fingerprint: `{content.manifest.fingerprint}`",
        "## Load it\n\n" + _loading(content),
        "## Columns\n\n" + _columns(content),
        "## Splits\n\n" + _splits(content),
        "## Source and licence\n\n" + _source(content),
        "## Rejected rows\n\n" + _rejected(content),
    ]
    if content.words:
        parts.append("## Words\n\n" + _words(content))
    return "\n\n".join(parts) + "\n"


def describe(content: CardContent) -> str:
    """The dataset in some sentences."""
    rows, count = content.total.rows, len(content.words)
    words = f" of {count} word{'' if count == 1 else 's'}" if count else ""
    return (
        f"{rows:,} drawing{'' if rows == 1 else 's'}{words} in the simplified form of Google's "
        f"Quick, Draw! dataset: strokes on a grid of 256 × 256, in {CARD_MARK}."
    )


def _front_matter(content: CardContent) -> dict[str, Any]:
    rows = content.total.rows
    size = next((name for name, limit in _SIZES.items() if rows < limit), "10M<n<100M")
    front: dict[str, Any] = {
        "pretty_name": content.title,
        "license": "cc-by-4.0",
        "task_categories": ["image-classification"],
        "tags": ["quickdraw", "sketches", "strokes"],
        "size_categories": [size],
        "configs": [_config(_DEFAULT, FILES)],
    }
    for word in map(underscored, content.words):
        if word != _DEFAULT:
            front["configs"].append(_config(word, f"drawings/word={word}/*.parquet"))
    return front


def _config(name: str, path: str) -> dict[str, Any]:
    return {"config_name": name, "data_files": [{"split": SPLIT, "path": path}]}


def _loading(content: CardContent) -> str:
    word = underscored(content.words[0]) if content.words else None
    one = f'\nsome = load_dataset("store", "{word}", split="{SPLIT}")' if word else ""
    parts = [
        "`store` is this folder, wherever it is; on a hub, the name of the dataset.",
        f'```python\nfrom datasets import load_dataset\n\ndrawings = load_dataset("store", '
        f'split="{SPLIT}"){one}\n```',
    ]
    if word:
        parts += [
            "The word of a drawing is in the name of its file's folder, which `load_dataset` does "
            "not read. This does:",
            "```python\nimport pyarrow.dataset\nfrom datasets import Dataset\n\n"
            'table = pyarrow.dataset.dataset("store/drawings", partitioning="hive").to_table()\n'
            "labelled = Dataset(table)\n```",
        ]
    parts += [
        "The strokes of a drawing:",
        "```python\nimport numpy as np\n\n"
        'x, y = (np.frombuffer(drawings[0][name], np.uint8) for name in ("x", "y"))\n'
        'lengths = np.frombuffer(drawings[0]["stroke_lengths"], "<u2")\n'
        "ends = np.cumsum(lengths)[:-1]\n"
        "strokes = list(zip(np.split(x, ends), np.split(y, ends)))\n```",
        "pandas, Polars and DuckDB open `drawings/` too. `croissant.json` describes the same for "
        "programs, in [Croissant](https://mlcommons.org/croissant) 1.1.",
    ]
    return "\n\n".join(parts)


def _columns(content: CardContent) -> str:
    rows = [
        f"| `{field.name}` | {field.type} | {COLUMNS[field.name][1]} |"
        for field in SCHEMA  # the types that the files have
    ]
    if content.words:
        text = "The word that was to be drawn, underscores for spaces."
        rows.append(f"| `word` | from the folder | {text} |")
    return "\n".join(["| column | type | |", "| --- | --- | --- |", *rows])


def _splits(content: CardContent) -> str:
    rule, total = content.manifest.holdout, content.total
    code = f"""```python
import numpy as np

z = np.asarray(drawings["key_id"], np.uint64) ^ np.uint64({rule.salt})
z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
u = (z ^ (z >> np.uint64(31))) / 2.0**64
split = np.select([u < {rule.test_share}, u < {rule.test_share} + {rule.validation_share}], """
    code += '["test", "validation"], "train")\n```'
    lines = ["| split | drawings | share |", "| --- | ---: | ---: |"]
    for name in ("train", "validation", "test"):
        count = getattr(total, name)
        share = f"{count / total.rows:.1%}" if total.rows else ""
        lines.append(f"| {name} | {count:,} | {share} |")
    return "\n\n".join(
        [
            "A hash of its `key_id` decides the split of a drawing: `u < "
            f"{rule.test_share:g}` is test, the next {rule.validation_share:g} validation, the "
            "rest train. So no drawing changes sides when the dataset grows. Do not train on the "
            "first two if you compare with numbers of others.",
            "\n".join(lines),
            code,
        ]
    )


def _source(content: CardContent) -> str:
    manifest = content.manifest
    forms = Counter(_form(source) for source in manifest.sources)
    files = ", ".join(f"{n:,} file{'' if n == 1 else 's'} of {form}" for form, n in forms.items())
    folders = {
        source.location.rpartition("/")[0]
        for source in manifest.sources
        if scheme_of(source.location)  # where a local file was is nobody's concern
    }
    where = f" at {first_few(sorted(folders))}" if folders else ""
    chosen = manifest.options.get("rows")
    rows = "all rows" if chosen == "all" else f"rows `{chosen}`"
    if str(chosen).startswith("spread"):
        rows += f", seed {manifest.options.get('seed')}"
    return (
        f"Read from {files}{where}: {rows}, {len(manifest.files):,} windows.\n\n"
        f"The drawings of the [Quick, Draw! dataset]({SOURCE}) were made by players of the game "
        "within 20 seconds each. Google, Inc. makes them available under the [Creative Commons "
        f"Attribution 4.0 International license]({LICENCE}). If the files came from elsewhere, "
        "such as from `quickdraw generate`, neither holds for them."
    )


def _form(source: SourceRecord) -> str:
    layout, _, raw = source.form.partition(" ")
    return _FORMS.get(layout, layout) + (", raw" if raw else "")


def _rejected(content: CardContent) -> str:
    manifest = content.manifest
    count = manifest.rows_read - manifest.rows_kept
    sums = f"{manifest.rows_read:,} rows read = {manifest.rows_kept:,} kept + {count:,} rejected"
    if not count:
        return f"{sums}."
    reasons = [f"| {reason} | {n:,} |" for reason, n in manifest.rejected.items()]
    table = "\n".join(["| reason | rows |", "| --- | ---: |", *reasons])
    return f"{sums}. The rejected ones are in `quarantine/`, with the reason.\n\n{table}"


def _words(content: CardContent) -> str:
    lines = [
        "| word | drawings | train | validation | test |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for word in content.words:
        n: SplitCounts = content.splits[word]
        lines.append(f"| {word} | {n.rows:,} | {n.train:,} | {n.validation:,} | {n.test:,} |")
    return "\n".join(lines)
