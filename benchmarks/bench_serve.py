"""The API beside the bare network: one user, many users, more users than it can carry.

    python benchmarks/bench_serve.py [BUNDLE] [--rounds 3] [--seconds 8] [--set KEY=VALUE …]

Without a bundle it makes one: the network of the recipe `laptop`, 35 words, random weights.

wrk (Debian's package of this name) sends drawings over loopback to `quickdraw serve`, a
process of its own. The drawings are generated doodles, simplified; one user also sends them as a
page does, in floats of the screen (raw, some 10 kB each). Bare is the bundle's graph in
onnxruntime, on images drawn beforehand, in a process with the server's settings: one drawing on
one thread, and batches on as many threads as the server has. Each round measures all of it, one
after the other; the best of the rounds counts, since other work of the machine only makes slower.

Load: wrk with `--users` connections, each of which asks again once it is answered. It runs on the
same cores: `load_wrk_cores` says how much of them it takes. `load_server_ms` is the server's
processor time for an answer, `bare_ms` that of the network alone for a drawing.

Overload: wrk with so many connections that they ask at twice the rate that was carried. Each asks
again a random time after it was answered, `--think` seconds in the mean, so that they do not ask
all at once; what they really asked is `over_times_carried`. An answer of 503 counts among the
answers, and its time among the times.
"""

import argparse
import json
import math
import os
import re
import resource
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
import psutil

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.labels import LabelMap
from quickdraw_core.serving.bundle import open_bundle
from quickdraw_core.serving.recognizer import BundleRecognizer
from quickdraw_core.sources.doodles.generator import generate_drawing
from quickdraw_core.sources.doodles.programs import default_words
from quickdraw_core.system.threads import set_waiting, usable_cores
from quickdraw_core.training.config import TrainConfig

DRAWINGS, BATCH, WORDS = 200, 32, 35
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
  io.write(string.format('"longest_ms": %%f, "refused": %%d, ', latency.max / 1000,
    counted and counted:get("refused") or 0))
  io.write(string.format('"errors": %%d}\\n', summary.errors.status + summary.errors.timeout
    + summary.errors.connect + summary.errors.read + summary.errors.write))
end
"""
COUNTING = """
refused = 0
setup = function(thread) counted = thread end
response = function(status) if status == 503 then refused = refused + 1 end end
"""
THINKING = """
delay = function() return math.random(0, THINK_MS) end
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


def example_bundle(folder: Path) -> Path:
    """A bundle of the recipe `laptop` with random weights: as fast as a trained one."""
    import torch

    from quickdraw_core.bundling.graph import BundleMember
    from quickdraw_core.bundling.model_card import model_card
    from quickdraw_core.bundling.write import BundleFacts, write_bundle
    from quickdraw_core.recipes import RECIPES
    from quickdraw_core.training.network import new_network

    torch.manual_seed(1)
    config = TrainConfig.parse(RECIPES["laptop"]() | {"store": folder})
    network = new_network(config, WORDS).eval()
    member = BundleMember(network, config.model, config.image, config.model.flip_tta, "0" * 64)
    words = LabelMap.of([f"word {number:02}" for number in range(WORDS)])
    write_bundle(folder, [member], BundleFacts("laptop", words, "0" * 64), model_card)
    return folder


def bare(bundle: Path, seconds: float) -> dict[str, float]:
    """Milliseconds of one drawing alone, drawings a second in batches on all cores, and the
    processor's milliseconds of each.
    """
    recognizer = BundleRecognizer(open_bundle(bundle), threads=1)
    batch = DrawingBatch.from_strokes(drawings()[:BATCH])
    images = [pixels for _, pixels in recognizer.images(batch)]
    single, times = [pixels[:1] for pixels in images], []
    end = time.perf_counter() + seconds / 2
    while time.perf_counter() < end:
        began = time.perf_counter()
        recognizer.of_images(single)
        times.append(time.perf_counter() - began)
    counts, before = [0] * usable_cores(), time.process_time()
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
    return {
        "one_ms": 1000 * float(np.median(times)),
        "per_second": sum(counts) / (seconds / 2),
        "each_ms": 1000 * (time.process_time() - before) / sum(counts),
    }


@contextmanager
def serving(bundle: Path, options: Sequence[str]) -> Iterator[tuple[str, psutil.Process]]:
    """The command, started as a user would: its address and process."""
    words = [sys.executable, "-m", "quickdraw_core.cli", "serve", str(bundle), "--port", "0"]
    server = subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if match := re.search(r"http://\S+", line):
                yield match.group(), psutil.Process(server.pid)
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


def overload(
    address: str, script: Path, rate: float, think: float, seconds: float
) -> dict[str, float]:
    """Of connections that each ask again some time after they are answered, `think` seconds in the
    mean: so many that together they ask at a rate, whether it can be carried or not.
    """
    text = script.read_text().replace("THINK_MS", f"{2000 * think:.0f}")
    thinking = script.with_name("thinking.lua")
    thinking.write_text(text)
    # How long answers take, refusals among them, is not known before.
    crowd = math.ceil(rate * think)
    tried = wrk(address, thinking, crowd, seconds)
    crowd = math.ceil(crowd * rate * tried["seconds"] / tried["answers"])
    found = wrk(address, thinking, crowd, seconds)
    return {
        "asked_per_second": found["answers"] / found["seconds"],
        "guessed_per_second": (found["answers"] - found["refused"]) / found["seconds"],
        "refused_share": found["refused"] / found["answers"],
        "other": found["errors"] - found["refused"],
        "median_ms": found["median_ms"],
        "p99_ms": found["p99_ms"],
        "longest_ms": found["longest_ms"],
    }


def processor_seconds(process: psutil.Process) -> float:
    """What a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def children_seconds() -> float:
    """What this process's children have used that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(
    options: argparse.Namespace, folder: Path, address: str, server: psutil.Process
) -> dict[str, float]:
    """A round."""
    script = folder / "simplified.lua"
    child = [sys.executable, __file__, str(options.bundle), "--bare", "--seconds"]
    text = subprocess.run([*child, str(options.seconds)], capture_output=True, check=True).stdout
    network = json.loads(text)
    one = wrk(address, script, 1, options.seconds)
    raw = wrk(address, folder / "raw.lua", 1, options.seconds)
    used, used_by_wrk = processor_seconds(server), children_seconds()
    many = wrk(address, script, options.users, options.seconds)
    used, used_by_wrk = processor_seconds(server) - used, children_seconds() - used_by_wrk
    carried = many["answers"] / many["seconds"]
    over = overload(address, folder / "over.lua", 2 * carried, options.think, options.seconds)
    return {
        "bare_one_ms": network["one_ms"],
        "bare_per_second": network["per_second"],
        "bare_ms": network["each_ms"],
        "user_median_ms": one["median_ms"],
        "user_p99_ms": one["p99_ms"],
        "user_raw_median_ms": raw["median_ms"],
        "user_times_bare": one["median_ms"] / network["one_ms"],
        "load_per_second": carried,
        "load_share_of_bare": carried / network["per_second"],
        "load_server_ms": 1000 * used / many["answers"],
        "load_server_cores": used / many["seconds"],
        "load_wrk_cores": used_by_wrk / many["seconds"],
        "load_p99_ms": many["p99_ms"],
        "load_errors": many["errors"],
        "over_times_carried": over["asked_per_second"] / carried,
        **{f"over_{name}": value for name, value in over.items()},
        "machine_load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--think", type=float, default=0.8, metavar="SECONDS")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bare", action="store_true", help="measure the network alone, as JSON")
    options = parser.parse_args()
    if options.bare:
        print(json.dumps(bare(options.bundle, options.seconds)))
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.bundle is None:
            options.bundle = example_bundle(folder / "bundle")
        made = drawings()
        for form, sent in (("simplified", made), ("raw", [as_drawn(each) for each in made])):
            bodies = [json.dumps({"drawing": each}, separators=(",", ":")) for each in sent]
            (folder / f"{form}.txt").write_text("\n".join(bodies))
            (folder / f"{form}.lua").write_text(SCRIPT % (folder / f"{form}.txt"))
        simplified = (folder / "simplified.lua").read_text()
        (folder / "over.lua").write_text(simplified + COUNTING + THINKING)
        changes = [word for change in options.set for word in ("--set", change)]
        with serving(options.bundle, changes) as (address, server):
            wrk(address, folder / "raw.lua", 8, 2)  # warm
            rounds = [measure(options, folder, address, server) for _ in range(options.rounds)]
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        print(f"{name:24}", *(f"{value:10.2f}" for value in values))


if __name__ == "__main__":
    set_waiting(os.environ)
    main()
