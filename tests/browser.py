"""A real browser for tests of pages: headless Chromium, which writes down what a page asks for.

`python tests/browser.py REPORT.html FOLDER` takes the pictures of a report that the documentation
shows.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing of the browser's own goes out, and root may start it.
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)


@dataclass
class Seen:
    """A page, what it asked for, and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium; skips the test on a machine that has none, which CI may not be."""
    path = os.environ.get("QUICKDRAW_BROWSER") or next(
        filter(None, map(shutil.which, NAMES)), None
    )
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: .ci/run installs it")
        pytest.skip(f"no browser here: none of {', '.join(NAMES)}; QUICKDRAW_BROWSER names one")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        try:
            yield found
        finally:
            found.close()


@contextmanager
def opened(found: Browser, page: Path | str, **options: Any) -> Iterator[Seen]:
    """A file or an address as a page, in a window of its own. options: of `new_context`."""
    context = found.new_context(**options)
    try:
        seen = Seen(context.new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("pageerror", lambda error: seen.problems.append(str(error)))
        seen.page.on("console", lambda said: seen.problems.append(said.text))
        seen.page.goto(page if isinstance(page, str) else page.as_uri())
        yield seen
    finally:
        context.close()


def sideways(page: Page) -> int:
    """Pixels that a page reaches beyond its window: what a reader would have to scroll."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


PARTS = ("training", "classes", "confusion", "calibration", "strokes", "gallery")
COLOURS = 128
"""Of a picture: enough for lines and text, at a third of the size."""


def take_pictures(found: Browser, report: Path, folder: Path) -> list[Path]:
    """Pictures of a report: its beginning, as wide and on a phone, and each of PARTS."""
    pictures = {}
    with opened(found, report, viewport={"width": 1100, "height": 1290}) as seen:
        pictures["report"] = seen.page.screenshot()
        for part in PARTS:
            box = seen.page.locator(f"#{part}").bounding_box()
            assert box is not None, f"the page has no {part}"
            clip = {"x": 0.0, "y": box["y"], "width": 1100.0, "height": min(box["height"], 1000)}
            pictures[f"report-{part}"] = seen.page.screenshot(full_page=True, clip=clip)
    phone = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2}
    with opened(found, report, **phone, color_scheme="dark") as seen:
        pictures["report-phone"] = seen.page.screenshot()
    return [save_picture(picture, folder / f"{name}.png") for name, picture in pictures.items()]


def save_picture(picture: bytes, path: Path) -> Path:
    """Writes a screenshot with few colours, for the documentation."""
    path.write_bytes(picture)
    with Image.open(path) as image:
        smaller = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    smaller.save(path, optimize=True)
    return path


if __name__ == "__main__":
    with browser() as chromium:
        take_pictures(chromium, Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
