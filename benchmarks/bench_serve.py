"""The API beside the bare network: one user, many users, more users than it can carry.

    python benchmarks/bench_serve.py BUNDLE [--rounds 3] [--seconds 8] [--set KEY=VALUE …]

wrk and hey (Debian's packages of these names) send drawings over loopback to `quickdraw serve`, a
process of its own. The drawings are generated doodles, simplified; one user also sends them as a
page does, in floats of the screen (raw, some 10 kB each). Bare is the bundle's graph in
onnxruntime, on images drawn beforehand, in a process with the server's settings: one drawing on
one thread, and batches on as many threads as the server has. Each round measures all of it, one
after the other; the best of the rounds counts, since other work of the machine only makes slower.

Load: wrk with `--users` connections, each of which asks again once it is answered. Overload: hey
with twice the rate that was carried, spread over `--crowd` connections; an answer of 503 counts
among the answers, and its time among the times.
"""

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.serving.bundle import open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.sources.doodles.generator import generate_drawing
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.system.threads import set_waiting, usable_cores

DRAWINGS, BATCH = 200, 32
SCALE, STEP_PX = 2.7, 6.0
"""Of a canvas of 700 px, on which a pointer moves so far between two events."""

Strokes = list[tuple[list[int], list[int]]]

SCRIPT = """
local bodies, n, statuses = {}, 0, {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function() n = n + 1; return wrk.format(nil, nil, nil, bodies[n %% #bodies + 1]) end
done = function(summary, latency)
  io.write(string.format('{"median_ms": %%f, "p99_ms": %%f, "answers": %%d, "seconds": %%f, ',
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.requests,
    summary.duration / 1e6))
  io.write(string.format('"errors": %%d}\\n', summary.errors.status + summary.errors.timeout
    + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""


def drawings() -> list[Strokes]:
    """Doodles of the generator, the same in each run."""
    rng, words = np.random.default_rng(1), default_words(24)
    return [generate_drawing(words[n % 24], rng, 0.0)[0] for n in range(DRAWINGS)]


def as_drawn(strokes: Strokes) -> list[list[list[float]]]:
    """A drawing as a page sends it: a point an event, in pixels of the screen, with times."""
    raw, clock = [], 0.0
    for x, y in strokes:
        px, py = np.array(x) * SCALE + 40, np.array(y) * SCALE + 90
        along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(px), np.diff(py)))])
        at = np.append(np.arange(0.0, along[-1], STEP_PX), along[-1])
        times = clock + 16.0 * np.arange(len(at))
        clock = float(times[-1]) + 200
        columns = np.interp(at, along, px), np.interp(at, along, py), times
        raw.append([column.round(2).tolist() for column in columns])
    return raw


def bare(bundle: Path, seconds: float) -> dict[str, float]:
    """Milliseconds of one drawing alone, and drawings a second in batches on all cores."""
    recognizer = BundleRecognizer(open_bundle(bundle), threads=1)
    batch = DrawingBatch.from_strokes(drawings()[:BATCH])
    images = [pixels for _, pixels in recognizer.images(batch)]
    single, times = [pixels[:1] for pixels in images], []
    end = time.perf_counter() + seconds / 2
    while time.perf_counter() < end:
        began = time.perf_counter()
        recognizer.of_images(single)
        times.append(time.perf_counter() - began)
    counts = [0] * usable_cores()
    end = time.perf_counter() + seconds / 2

    def work(number: int) -> None:
        while time.perf_counter() < end:
            recognizer.of_images(images)
            counts[number] += BATCH

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"one_ms": 1000 * float(np.median(times)), "per_second": sum(counts) / (seconds / 2)}


@contextmanager
def serving(bundle: Path, options: Sequence[str]) -> Iterator[str]:
    """The address of the command, started as a user would."""
    words = [sys.executable, "-m", "quickdraw_core.cli", "serve", str(bundle), "--port", "0"]
    server = subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if match := re.search(r"http://\S+", line):
                yield match.group()
                return
        raise SystemExit("the server did not start")
    finally:
        server.terminate()
        server.wait(30)


def wrk(address: str, script: Path, users: int, seconds: float) -> dict[str, float]:
    """Of `users` connections that each ask again once they are answered."""
    words = ["wrk", "-t1", f"-c{users}", f"-d{seconds:.0f}s", "-s", str(script)]
    text = subprocess.run(
        [*words, f"{address}/api/guess"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, float] = json.loads(text[text.index("{") :])
    return found


def hey(address: str, body: Path, crowd: int, rate: float, seconds: float) -> dict[str, float]:
    """Of `crowd` connections that together ask at a rate, whether it can be carried or not."""
    words = ["hey", "-z", f"{seconds:.0f}s", "-c", str(crowd), "-q", f"{rate / crowd:.3f}"]
    words += ["-m", "POST", "-T", "application/json", "-D", str(body), "-o", "csv"]
    text = subprocess.run(
        [*words, f"{address}/api/guess"], capture_output=True, text=True, check=True
    ).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    times = np.array([1000 * float(row["response-time"]) for row in rows])
    guessed = np.array([row["status-code"] == "200" for row in rows])
    refused = np.array([row["status-code"] == "503" for row in rows])
    return {
        "asked_per_second": len(rows) / seconds,
        "guessed_per_second": float(guessed.sum()) / seconds,
        "refused_share": float(refused.mean()),
        "other": float((~guessed & ~refused).sum()),
        "p99_ms": float(np.quantile(times, 0.99)),
        "longest_ms": float(times.max()),
    }


def measure(options: argparse.Namespace, folder: Path, address: str) -> dict[str, float]:
    """A round."""
    script, body = folder / "simplified.lua", folder / "body.json"
    child = [sys.executable, __file__, str(options.bundle), "--bare", "--seconds"]
    text = subprocess.run([*child, str(options.seconds)], capture_output=True, check=True).stdout
    network = json.loads(text)
    one = wrk(address, script, 1, options.seconds)
    raw = wrk(address, folder / "raw.lua", 1, options.seconds)
    many = wrk(address, script, options.users, options.seconds)
    carried = many["answers"] / many["seconds"]
    over = hey(address, body, options.crowd, 2 * carried, options.seconds)
    return {
        "bare_one_ms": network["one_ms"],
        "bare_per_second": network["per_second"],
        "user_median_ms": one["median_ms"],
        "user_p99_ms": one["p99_ms"],
        "user_raw_median_ms": raw["median_ms"],
        "user_times_bare": one["median_ms"] / network["one_ms"],
        "load_per_second": carried,
        "load_share_of_bare": carried / network["per_second"],
        "load_p99_ms": many["p99_ms"],
        "load_errors": many["errors"],
        **{f"over_{name}": value for name, value in over.items()},
        "machine_load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--crowd", type=int, default=400)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bare", action="store_true", help="measure the network alone, as JSON")
    options = parser.parse_args()
    if options.bare:
        print(json.dumps(bare(options.bundle, options.seconds)))
        return
    missing = [name for name in ("wrk", "hey") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"{missing[0]} is not installed: apt-get install {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = drawings()
        for form, sent in (("simplified", made), ("raw", [as_drawn(each) for each in made])):
            bodies = [json.dumps({"drawing": each}, separators=(",", ":")) for each in sent]
            (folder / f"{form}.txt").write_text("\n".join(bodies))
            (folder / f"{form}.lua").write_text(SCRIPT % (folder / f"{form}.txt"))
        (folder / "body.json").write_text(json.dumps({"drawing": made[0]}))
        changes = [word for change in options.set for word in ("--set", change)]
        with serving(options.bundle, changes) as address:
            wrk(address, folder / "raw.lua", 8, 2)  # warm
            rounds = [measure(options, folder, address) for _ in range(options.rounds)]
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        print(f"{name:24}", *(f"{value:10.2f}" for value in values))


if __name__ == "__main__":
    set_waiting(os.environ)
    main()
