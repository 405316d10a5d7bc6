"""The validation drawings that models guess wrong and are surest of: a page to be looked at.

    python benchmarks/surest_mistakes.py RUN… --store STORE [--number 100] [--out FILE]

Each drawing with its word, the first guess and its probability: for counting whose mistake
it is, the model's or that of who drew. Several models judge together. In
float32.
"""

import argparse
from pathlib import Path

import numpy as np
from jinja2 import Template

from quickdraw_core.inference.config import HeldOutConfig
from quickdraw_core.inference.ensemble import load_models
from quickdraw_core.inference.held_out import find_held_out, require_same_store
from quickdraw_core.inference.predict import predict_rows
from quickdraw_core.reporting.gallery import example_of
from quickdraw_core.stage import Opened
from quickdraw_core.store.holdout import Split
from quickdraw_core.store.store import open_store

_PAGE = Template(
    """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 14px sans-serif; margin: 1rem; }
main { display: grid; grid-template-columns: repeat(10, 1fr); gap: 8px; }
figure { margin: 0; } svg { width: 100%; border: 1px solid #ccc; }
path { fill: none; stroke: #000; stroke-width: 5; stroke-linecap: round; }
</style>
<h1>{{ title }}</h1>
<main>
{% for e in examples %}
<figure><svg viewBox="-8 -8 271 271"><path d="{{ e.path }}"/></svg>
<figcaption>{{ loop.index }}. <b>{{ e.expected }}</b><br>
{{ e.guesses[0][0] }} {{ "%.2f" | format(e.guesses[0][1]) }}</figcaption></figure>
{% endfor %}
</main></html>
""",
    autoescape=True,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="run folders or checkpoints, judged together")
    parser.add_argument("--store", default="store")
    parser.add_argument("--number", type=int, default=100, help="drawings on the page")
    parser.add_argument("--out", type=Path, default=Path("surest_mistakes.html"))
    options = parser.parse_args()
    config = HeldOutConfig.parse(
        {"store": options.store, "per_class": 1_000_000, "allow_short": True}
    )
    opened = Opened()
    store, models = open_store(config.store, opened), load_models(options.models)
    require_same_store(config, models, store)
    held_out = find_held_out(config, store, opened, Split.VALIDATION)
    predictions = predict_rows(models, held_out.pack, held_out.rows).predictions
    wrong = np.flatnonzero(predictions.ranks > 0)
    surest = wrong[np.argsort(-predictions.confidences[wrong], kind="stable")][: options.number]
    examples = [
        example_of(predictions, i, held_out.pack.drawings, int(held_out.rows[i])) for i in surest
    ]
    title = (
        f"{len(examples)} surest of {len(wrong):,} wrong first guesses of {len(predictions):,} "
        f"validation drawings, by {models.name}"
    )
    options.out.write_text(_PAGE.render(title=title, examples=examples), encoding="utf-8")
    print(f"{title}: {options.out}")


if __name__ == "__main__":
    main()
