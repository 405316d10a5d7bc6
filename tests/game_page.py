"""The game's page in a real browser, on a real server whose model says what a test wants.

`python tests/game_page.py ADDRESS FOLDER` takes the pictures that the documentation shows, of
`quickdraw play` on a model of generated doodles.
"""

import json
import sys
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from browser import Seen, browser, opened, save_picture
from playwright.sync_api import Browser, Page
from serving_app import InkRecognizer

from quickdraw_core.drawing import DrawingBatch, Float32Array
from quickdraw_core.labels import LabelMap
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.app import create_app
from quickdraw_core.serving.web.config import ServeConfig
from quickdraw_core.serving.web.server import address_of, listen, server_of
from quickdraw_core.sources.doodles.generator import generate_drawing
from quickdraw_core.store.store import Store

WORDS = ("clock", "envelope", "fish", "house", "ice cream", "star", "sun")
"""One more than a game has."""
Drawing = list[list[list[float]]]
FACE: Drawing = [
    [[60, 20, 30, 75, 110, 150, 190, 200], [30, 0, 90, 75, 70, 75, 90, 0]],
    [[30, 25, 60, 120, 180, 200, 190], [90, 150, 200, 215, 190, 140, 90]],
    [[80, 85], [120, 121]],
    [[150, 152], [120, 122]],
]


@dataclass
class SayingRecognizer(InkRecognizer):
    """Says one word with a probability, and shares the rest among the others. words: that it
    knows. says: None is the first. drawings: what it was asked about, simplified.
    """

    words: Sequence[str] = WORDS
    says: str | None = None
    probability: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.label_map = LabelMap.of(self.words)
        self.drawings: list[Any] = []

    def forget(self) -> None:
        """As if nothing had been asked."""
        self.drawings.clear()
        self.batches.clear()

    def log_probabilities(self, drawings: DrawingBatch) -> Float32Array:
        self.batches.append(len(drawings))
        self.may_go.wait(60)
        self.drawings += [drawings.strokes(index) for index in range(len(drawings))]
        words = self.label_map.words
        said = self.label_map.index[self.says or words[0]]
        shares = np.arange(len(words), 0.0, -1)
        shares[said] = 0
        shares *= (1 - self.probability) / shares.sum()
        shares[said] = self.probability
        return np.log(np.tile(shares, (len(drawings), 1))).astype(np.float32)


@contextmanager
def served(slot: ModelSlot, store: Store | None = None, port: int = 0) -> Iterator[str]:
    """The address of a real server with the page, in a thread of this process."""
    listener = listen("127.0.0.1", port)
    server = server_of(create_app(slot, ServeConfig(store=store.path if store else None)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def page_at(found: Browser, address: str, view: str = "", **options: Any) -> Iterator[Seen]:
    """The page in a window of its own; at its end, it asked for nothing of another host and had
    no error. view: as `#draw`. options: of Playwright's `new_context`.
    """
    with opened(found, f"{address}/{view}", **options) as seen:
        yield seen
        assert [url for url in seen.requests if not url.startswith((address, "blob:"))] == []
        # Chromium writes of each answer that is an error; what comes of it, tests say.
        assert [text for text in seen.problems if "Failed to load resource" not in text] == []


def draw(page: Page, drawing: Drawing) -> None:
    """Draws with the pointer, point by point; coordinates are 0..255."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    scale, left, top = box["width"] * 0.8 / 255, box["x"] + 20, box["y"] + 20
    for x, y, *_ in drawing:
        points = [(left + a * scale, top + b * scale) for a, b in zip(x, y, strict=True)]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def drop(page: Page, file: Path) -> None:
    """Drops a file in the middle of the page, as Chromium gets it from a desktop."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 300, "y": 300, "data": data}
        session.send("Input.dispatchDragEvent", event)


def copy_picture(page: Page, data: bytes) -> None:
    """Puts a PNG into the clipboard; the page must be allowed to."""
    page.evaluate(
        """async (base64) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const blob = new Blob([bytes], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        b64encode(data).decode(),
    )


def settle(page: Page) -> None:
    """Waits until all that was asked is answered, and shown."""
    page.locator("#guesses[aria-busy=false]").wait_for(state="attached")


def shown_guesses(page: Page) -> list[tuple[str, str]]:
    """The words and their probabilities as the page shows them."""
    rows = page.locator("#guesses li:visible").all()
    return [(row.locator(".word").inner_text(), row.locator("b").inner_text()) for row in rows]


def downloaded(page: Page, button: str) -> tuple[str, bytes]:
    """Name and content of the file that a button has the browser save."""
    with page.expect_download() as download:
        page.locator(button).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def rows_of(name: str, content: bytes) -> list[dict[str, Any]]:
    """The drawings of a download, ndjson or a zip file of such."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            assert archive.testzip() is None
            content = b"".join(archive.read(member) for member in archive.namelist())
    return [json.loads(line) for line in content.splitlines()]


class Finger:
    """Touches and a pen on the paper, as Chromium gets them from a screen."""

    def __init__(self, page: Page) -> None:
        box = page.locator("#pad").bounding_box()
        assert box is not None
        self._left, self._top = box["x"], box["y"]
        self._session = page.context.new_cdp_session(page)

    def touch(self, *points: tuple[int, int]) -> None:
        """A finger from the first point to the last one."""
        self.touch_begins(*points)
        self._session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def touch_begins(self, *points: tuple[int, int]) -> None:
        """A finger that stays on the paper."""
        for number, point in enumerate(points):
            kind = "touchMove" if number else "touchStart"
            x, y = self._at(point)
            event = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            self._session.send("Input.dispatchTouchEvent", event)

    def pen(self, *points: tuple[int, int]) -> None:
        """A pen from the first point to the last one."""
        for point in points:
            kind = "mousePressed" if point is points[0] else "mouseMoved"
            self._pen(kind, point)
        self._pen("mouseReleased", points[-1])

    def _pen(self, kind: str, point: tuple[int, int]) -> None:
        x, y = self._at(point)
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        self._session.send("Input.dispatchMouseEvent", event | {"pointerType": "pen"})

    def _at(self, point: tuple[int, int]) -> tuple[float, float]:
        return self._left + point[0], self._top + point[1]


BEST_WORDS = ("sailboat", "bicycle", "house", "fish", "flower", "car", "cat")
"""For the picture of the game, the first of them that a game has."""


def draw_in_game(page: Page, word: str, rng: np.random.Generator) -> None:
    """Draws a doodle of a word to its end: guesses come after it, which could end the round."""
    page.route("**/api/guess", lambda route: None)  # it waits
    doodle, _ = generate_drawing(word, rng, 0)
    left, top = (20 + (255 - max(max(stroke[axis]) for stroke in doodle)) / 2 for axis in (0, 1))
    for x, y in doodle:
        draw(page, [[[a + left for a in x], [b + top for b in y]]])
    page.unroute("**/api/guess")  # what waits goes on
    settle(page)


def take_pictures(found: Browser, address: str, folder: Path) -> None:
    """Pictures of a game, of its result, and of free drawing on a phone."""
    rng = np.random.default_rng(5)
    wide = {"viewport": {"width": 1100, "height": 820}, "reduced_motion": "reduce"}
    best = len(BEST_WORDS)
    with opened(found, f"{address}/#play", **wide, color_scheme="light") as seen:
        page = seen.page
        while page.locator("#result").is_hidden():
            word = page.locator("#card-word").text_content() or ""
            page.locator("#card-start").click()
            draw_in_game(page, word, rng)
            page.wait_for_timeout(500)
            rank = BEST_WORDS.index(word) if word in BEST_WORDS else len(BEST_WORDS)
            if rank <= best:
                save_picture(page.screenshot(), folder / "play.png")
                best = rank
            if not page.locator("#pad.locked").count():
                page.locator("#skip").click()
            page.locator("#result:visible, #card[open]").first.wait_for(timeout=60_000)
        page.wait_for_timeout(2_000)
        save_picture(page.screenshot(), folder / "play-result.png")
    phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2}
    with opened(found, f"{address}/#draw", **phone, color_scheme="dark") as seen:
        drawing, _ = generate_drawing("sailboat", rng, 0)
        draw(seen.page, [[list(axis) for axis in stroke] for stroke in drawing])
        settle(seen.page)
        seen.page.wait_for_timeout(1_000)
        save_picture(seen.page.screenshot(), folder / "play-phone.png")


if __name__ == "__main__":
    with browser() as chromium:
        take_pictures(chromium, sys.argv[1], Path(sys.argv[2]))
