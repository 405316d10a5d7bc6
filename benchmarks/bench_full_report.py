"""What `bench_full.py` found, as a page of Markdown and as a figure.

In: for each number of drawings what its steps found, as JSON. Out: a table of all steps, that says
what grows faster than the data and what memory grows with them; a table of what ranks share; a
figure, both axes logarithmic. Nothing here measures.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any, NamedTuple

from quickdraw_core.reporting.figure import COLOURS, LINE, dress, new_figure, save_figure

MIB = 1 << 20
FASTER = 1.1
"""Exponent of the growth of a time from which it is said to be faster than linear."""
LITTLE_SECONDS = 2.0
"""A step that takes no longer, also of the most drawings, says nothing of its growth."""
LITTLE_BYTES = 32 * MIB
"""What the memory of the same command differs by anyway."""
ONE_BYTE = 1.0
"""Bytes of memory a further drawing from which it is said to grow with the data."""

Rows = Mapping[str, Mapping[str, Any]]
"""Name of a row → its `Record`, as JSON."""


class Growth(NamedTuple):
    """How one row grew from one number of drawings to a larger one.

    wall, cpu: exponents e of the times, which grew as drawings ** e. bytes_a_drawing: anonymous
    memory that each further drawing took; 0 if it grew by no more than it differs by anyway.
    faster: the times that grew faster than linearly.
    """

    wall: float
    cpu: float
    bytes_a_drawing: float
    faster: tuple[str, ...]

    @property
    def text(self) -> str:
        """For a cell of the table."""
        said = f"n^{self.wall:.2f}, n^{self.cpu:.2f}"
        if self.faster:
            said += f": **{' and '.join(self.faster)} faster than linear**"
        if self.bytes_a_drawing >= ONE_BYTE:
            said += f"; **memory: {self.bytes_a_drawing:.1f} bytes a drawing**"
        return said


def growth(
    small: Mapping[str, Any], large: Mapping[str, Any], drawings: tuple[int, int]
) -> Growth:
    """Growth of a row between two numbers of drawings."""
    ratio = drawings[1] / drawings[0]

    def exponent(name: str) -> float:
        return log(max(large[name], 1e-3) / max(small[name], 1e-3)) / log(ratio)

    times = {"wall": exponent("wall_seconds"), "CPU": exponent("cpu_seconds")}
    faster = [
        name
        for (name, value), key in zip(times.items(), ("wall_seconds", "cpu_seconds"), strict=True)
        if value > FASTER and large[key] > LITTLE_SECONDS
    ]
    more = large["anonymous_bytes"] - small["anonymous_bytes"]
    a_drawing = more / (drawings[1] - drawings[0]) if more > LITTLE_BYTES else 0.0
    return Growth(times["wall"], times["CPU"], a_drawing, tuple(faster))


def rows_of(size: Mapping[str, Any]) -> Rows:
    """All rows of a size, in the order of the steps."""
    return {name: row for found in size["found"].values() for name, row in found["rows"].items()}


def facts_of(size: Mapping[str, Any]) -> dict[str, Any]:
    """What the steps of a size found besides their rows."""
    merged: dict[str, Any] = {"shared": {}}
    for found in size["found"].values():
        merged["shared"] |= found.get("shared", {})
        merged |= {key: value for key, value in found.items() if key not in ("rows", "shared")}
    return merged


def page(sizes: Mapping[int, Mapping[str, Any]], command: str) -> str:
    """All that was found, for `benchmarks/RESULTS.md`."""
    lines = ["## The whole chain", "", f"    {command}", ""]
    lines += [f"{_machine(sizes)}.", "", *_steps(sizes), "", *_said(sizes), "", *_shared(sizes)]
    return "\n".join(lines) + "\n"


def _machine(sizes: Mapping[int, Mapping[str, Any]]) -> str:
    """Where it was measured; each size may have been on another day."""
    by_text: dict[str, list[str]] = {}
    for drawings, size in sizes.items():
        on = size["machine"]
        text = (
            f"{on['date']}, {on['processor']}, {on['cores']} cores, {on['memory_gib']:.0f} GiB, "
            f"Linux {on['linux']}, Python {on['python']}, {on['packages']}, code {on['code']}"
        )
        by_text.setdefault(text, []).append(f"{drawings:,} (load before: {on['load']:.1f})")
    return "; ".join(f"{text}: {', '.join(of)} drawings" for text, of in by_text.items())


def _steps(sizes: Mapping[int, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| step | drawings | wall | CPU | anonymous memory | file-backed | growth: wall, CPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, by_size in _by_row(sizes).items():
        before: tuple[int, Mapping[str, Any]] | None = None
        for drawings, row in by_size.items():
            grown = growth(before[1], row, (before[0], drawings)).text if before else ""
            lines.append(
                f"| {'' if before else name} | {drawings:,} | {row['wall_seconds']:,.1f} s "
                f"| {row['cpu_seconds']:,.1f} s | {_mib(row['anonymous_bytes'])} "
                f"| {_mib(row['file_bytes'])} | {grown} |"
            )
            before = drawings, row
    return lines


def _by_row(sizes: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Name of a row → number of drawings, ascending → its record."""
    rows: dict[str, dict[int, Mapping[str, Any]]] = {}
    for drawings in sorted(sizes):
        for name, row in rows_of(sizes[drawings]).items():
            rows.setdefault(name, {})[drawings] = row
    return rows


def _said(sizes: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """What is a fault, if anything is, and how often was sampled."""
    lines = []
    if len(sizes) > 1:
        faults = faults_of(sizes)
        lines += [f"- {fault}" for fault in faults] or [
            "Nothing grows faster than linearly, and no memory with the drawings."
        ]
        lines += [""]
    rows = [row for size in sizes.values() for row in rows_of(size).values()]
    steps = [row for row in rows if row["sampling_seconds"]]
    share = sum(r["sampling_seconds"] for r in steps) / sum(r["wall_seconds"] for r in steps)
    lines.append(
        "n^e: the time grew as the number of drawings to the power e. Memory is sampled, each 0.1 "
        f"s at best, which took {share:.1%} of one core. File-backed memory is the pages of files "
        "that are in use: the system takes them back if it needs the room."
    )
    for drawings in sorted(sizes):
        facts = facts_of(sizes[drawings])
        parts = [
            f"{what} {facts[key] / 1e9:.2f} GB ({facts[key] / drawings:.0f} bytes a drawing)"
            for what, key in (("CSV", "csv_bytes"), ("store", "store_bytes"),
                              ("pack", "pack_bytes"), ("run folder", "run_bytes"))
            if key in facts
        ]  # fmt: skip
        if parts:
            lines += ["", f"On the disk, {drawings:,} drawings: {', '.join(parts)}."]
    return lines


def faults_of(sizes: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """What grew faster than the drawings, or took memory for each of them: a line each."""
    faults = []
    for name, by_size in _by_row(sizes).items():
        for (few, small), (many, large) in pairwise(by_size.items()):
            grown = growth(small, large, (few, many))
            between = f"from {few:,} to {many:,} drawings"
            if grown.faster:
                which = " and ".join(f"{time} time" for time in grown.faster)
                faults.append(f"{name}: {which} grew faster than linearly {between}")
            if grown.bytes_a_drawing >= ONE_BYTE:
                faults.append(
                    f"{name}: anonymous memory grew by {grown.bytes_a_drawing:.1f} bytes a "
                    f"drawing {between}"
                )
    return faults


def _shared(sizes: Mapping[int, Mapping[str, Any]]) -> list[str]:
    lines = [
        "What the processes of a training have of the pack, at the most: each by itself, and all "
        "together if shared pages count once (proportional set sizes).",
        "",
        "| drawings | ranks | processes | anonymous memory of each | pack, each | pack, each "
        "added up | pack, together | size of the pack |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for drawings in sorted(sizes):
        facts = facts_of(sizes[drawings])
        for ranks, processes in facts["shared"].items():
            resident = [process["resident_bytes"] for process in processes]
            together = sum(process["proportional_bytes"] for process in processes)
            lines.append(
                f"| {drawings:,} | {ranks} | {len(processes)} "
                f"| {_span([p['anonymous_bytes'] for p in processes])} | {_span(resident)} "
                f"| {_mib(sum(resident))} | {_mib(together)} | {_mib(facts['pack_bytes'])} |"
            )
    return lines


def _span(sizes: Sequence[int]) -> str:
    if not sizes:
        return "none"
    low, high = min(sizes) / MIB, max(sizes) / MIB
    return f"{low:,.0f} to {high:,.0f} MiB" if high - low >= 1 else f"{high:,.0f} MiB"


def _mib(size: float) -> str:
    return f"{size / MIB:,.0f} MiB"


def write_figure(sizes: Mapping[int, Mapping[str, Any]], path: Path) -> None:
    """Writes a PNG: time and anonymous memory of each step against the number of drawings."""
    figure = new_figure((11, 5.2))
    panels = figure.subplots(1, 2)
    by_row = _by_row(sizes)
    for axes, key, scale, title, unit in (
        (panels[0], "wall_seconds", 1, "Time", "wall seconds"),
        (panels[1], "anonymous_bytes", MIB, "Anonymous memory, at most", "MiB"),
    ):
        for number, (name, by_size) in enumerate(by_row.items()):
            axes.plot(
                list(by_size),
                [max(row[key] / scale, 1e-2) for row in by_size.values()],
                color=COLOURS[number % len(COLOURS)],
                linestyle=("-", "--")[number // len(COLOURS) % 2],
                marker="o",
                markersize=4,
                linewidth=1.6,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        dress(axes, title, "drawings", unit)
        low, high = axes.get_ylim()
        few, many = min(sizes), max(sizes)
        # What grows in proportion to the drawings is as steep as these lines.
        start = low / 1e3
        while few < many and start < high:
            axes.plot([few, many], [start, start * many / few], color=LINE, linewidth=0.8,
                      zorder=0)  # fmt: skip
            start *= 10
        axes.set_ylim(low, high)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)
