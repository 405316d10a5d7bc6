"""A bundle's README.md: a model card as Hugging Face's hub reads it.

YAML between two lines of dashes, then Markdown (https://huggingface.co/docs/hub/model-cards). All
numbers are those of `bundle.json`, which has them from the evaluation. Pure.
"""

from typing import Any

import yaml

from quickdraw_core.serving.bundle import BundleInfo, HeldOutInfo, Metric

METRICS = {
    "map_at_3": "MAP@3",
    "top_1": "top-1 accuracy",
    "top_3": "top-3 hit rate",
    "log_loss": "log loss",
    "expected_calibration_error": "expected calibration error",
}
"""The scores that a card has, by their names in the evaluation."""

DATASET = "https://github.com/googlecreativelab/quickdraw-dataset"
DATA_LICENCE = "https://creativecommons.org/licenses/by/4.0/"
CODE_LICENCE = "mit"
_WEAK = 10


def model_card(info: BundleInfo) -> str:
    """The text of README.md."""
    front = yaml.safe_dump(_front_matter(info), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---",
        f"# {_plain(info.name)}",
        _what_it_is(info),
        "## Use\n\n" + _use(info),
        "## Data\n\n" + _data(info),
        "## Evaluation\n\n" + _evaluation(info),
        "## Limits\n\n" + _limits(info),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(info: BundleInfo) -> dict[str, Any]:
    front: dict[str, Any] = {
        "license": CODE_LICENCE,
        "library_name": "onnxruntime",
        "pipeline_tag": "image-classification",
        "tags": ["quickdraw", "sketch-recognition", "onnx", *_architectures(info)],
        "datasets": ["google/quickdraw"],
    }
    if info.metrics is None or info.held_out is None:
        return front
    dataset = {
        "name": "Quick, Draw! (held-out drawings)",
        "type": "google/quickdraw",
        "split": "test",
        "args": {"drawings": info.held_out.drawings, "words": len(info.words)},
    }
    results = [
        {
            "type": name,
            "name": METRICS[name],
            "value": info.metrics[name].value,
            "args": {"low": info.metrics[name].low, "high": info.metrics[name].high},
        }
        for name in METRICS
        if name in info.metrics
    ]
    task = {"type": "image-classification", "name": "Sketch recognition"}
    front["model-index"] = [
        {
            "name": info.name,
            "results": [{"task": task, "dataset": dataset, "metrics": results}],
        }
    ]
    return front


def _architectures(info: BundleInfo) -> list[str]:
    return sorted({network.model.replace("_", "-") for network in info.networks})


def _what_it_is(info: BundleInfo) -> str:
    models = " and ".join(f"`{name}`" for name in sorted({n.model for n in info.networks}))
    images = " and ".join(
        f"{graph.image.side_px} × {graph.image.side_px} px in the encoding "
        f"`{graph.image.encoding}`"
        for graph in info.graphs
    )
    lines = [
        f"Guesses which of {len(info.words)} words a doodle shows: {models}, reading {images}."
    ]
    if info.members > 1:
        lines.append(f"It is the mean of {info.members} models.")
    if info.flip_tta:
        lines.append("It judges each drawing together with its mirror image.")
    if any(network.logit_adjustment for network in info.networks):
        lines.append("Its logits are adjusted for how often it was shown each word.")
    if info.quantized:
        lines.append("Its graph computes in integers of 8 bits.")
    return " ".join(lines)


def _use(info: BundleInfo) -> str:
    graphs = ", ".join(f"`{graph.file}`" for graph in info.graphs)
    channels = " or ".join(str(graph.image.channels) for graph in info.graphs)
    return (
        f"`quickdraw guess`, `quickdraw serve` and `quickdraw play` take this folder. {graphs}: "
        f"`images`, uint8 [N, {channels}, S, S], as the encoding draws them → "
        f"`log_probabilities`, float32 [N, {len(info.words)}], natural, in the order of `words` "
        "in `bundle.json`, which also has the SHA-256 of each file. `model.safetensors` holds "
        "the float32 weights."
    )


def _data(info: BundleInfo) -> str:
    also = " and ".join(f"`{fingerprint[:12]}`" for fingerprint in info.also_fingerprints)
    further = f", and on drawings of {also}, whose labels may be a model's" if also else ""
    return (
        f"Google's [Quick, Draw! dataset]({DATASET}), which Google, Inc. makes available under "
        f"the [Creative Commons Attribution 4.0 International license]({DATA_LICENCE}): drawings "
        "that players of the game made within 20 seconds, simplified to strokes on a grid of "
        f"256 × 256. Trained on the store `{info.store_fingerprint[:12]}`{further}; the held-out "
        "drawings were not trained on."
    )


def _evaluation(info: BundleInfo) -> str:
    if info.metrics is None or info.held_out is None:
        return (
            "Not evaluated. `quickdraw evaluate MODEL --store STORE` measures it on the held-out "
            "drawings of its store; the same export after it has the numbers."
        )
    held_out = info.held_out
    text = (
        f"On {held_out.drawings:,} held-out drawings, up to {held_out.per_class} of each word, of "
        f"the store `{held_out.store_fingerprint[:12]}`; intervals of 95 % by bootstrap.\n\n"
        + _table(info.metrics, held_out)
    )
    if info.quantized and info.float32_map_at_3 is not None:
        text += (
            f"\n\nMeasured in {info.quantized}, as it is served. In float32 the same model "
            f"reaches MAP@3 {info.float32_map_at_3:.4f} on the same drawings."
        )
    if held_out.unrecognized:
        text += (
            "\n\nRecognized and unrecognized: what the game's own model made of the drawing at "
            "the time. Unrecognized drawings are often unfinished or show something else."
        )
    return text + "\n\n" + _weak_words(info)


def _table(metrics: dict[str, Metric], held_out: HeldOutInfo) -> str:
    columns = {
        "all": metrics,
        "recognized": held_out.recognized,
        "unrecognized": held_out.unrecognized,
    }
    columns = {head: scores for head, scores in columns.items() if scores}
    lines = [
        "| score | " + " | ".join(columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for name, title in METRICS.items():
        if name in metrics:
            cells = [_cell(scores[name]) if name in scores else "" for scores in columns.values()]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(metric: Metric) -> str:
    return f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"


def _weak_words(info: BundleInfo) -> str:
    scores = info.per_class or {}
    weak = sorted(scores, key=lambda word: (scores[word], word))[:_WEAK]
    lines = ["| weakest words | MAP@3 | taken for |", "| --- | --- | --- |"]
    for word in weak:
        others = ", ".join(_plain(other) for other in info.confusions.get(word, []))
        lines.append(f"| {_plain(word)} | {scores[word]:.4f} | {others} |")
    return "\n".join(lines)


def _limits(info: BundleInfo) -> str:
    return "\n".join(
        [
            f"- It knows {len(info.words)} words and answers with one of them, whatever is drawn.",
            "- It was trained on doodles of people who had 20 seconds and a mouse or a finger. "
            "Careful drawings, photos and prints are something else.",
            "- Players of the game are no fair sample of mankind: how a word is drawn differs by "
            "country, and most drawings come from a few of them.",
            "- The game is not moderated to the last drawing: some do not show their word.",
            "- Do not decide anything about people by it.",
        ]
    )


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in text)
