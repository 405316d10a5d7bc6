"""An export in a few lines."""

from quickdraw_core.exporting.export import ExportResult


def export_facts(result: ExportResult) -> dict[str, str]:
    """Where the bundle is, what it holds, how good it is, and what to do with it."""
    info = result.info
    graphs = ", ".join(
        f"{graph.file} ({graph.image.encoding}, {graph.image.side_px} px)" for graph in info.graphs
    )
    state = " (was there already)" if result.skipped else ""
    facts = {
        "bundle": f"{result.folder}{state}",
        "model": f"{info.name}, {len(info.words)} words, weights {info.weights_sha256[:12]}",
        "graph": graphs + (f", {info.quantized}" if info.quantized else ""),
        "size": f"{result.size_bytes / 1e6:,.1f} MB",
    }
    if info.metrics is None or info.held_out is None:
        facts["held-out"] = "not evaluated; quickdraw evaluate, then the same export again"
    else:
        score = info.metrics["map_at_3"]
        facts["held-out"] = (
            f"MAP@3 {score.value:.4f} ({score.low:.4f} to {score.high:.4f}) on "
            f"{info.held_out.drawings:,} drawings"
        )
    return facts | {"play": f"quickdraw play {result.folder}"}
