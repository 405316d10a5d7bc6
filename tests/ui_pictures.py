"""Pictures of pages for the documentation.

`python tests/ui_pictures.py http://127.0.0.1:4200 FOLDER` takes those of a Prefect server that has
deployments and alerts; `… PAGE.html FOLDER` that of a page, `… README.md FOLDER` that of a
dataset card.
"""

import re
import sys
from pathlib import Path

from browser import Seen, browser, opened, save_picture
from markdown_it import MarkdownIt
from playwright.sync_api import Browser

PREFECT = {
    "prefect-deployments": ("/deployments", 1280, 860),
    "prefect-alerts": ("/automations", 1280, 700),
}
"""Name → path in Prefect's UI, width and height in pixels."""
WIDTH, HEIGHT = 1100, 1000
"""Of other pages, at most."""
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; color: #1d2327; }
table { border-collapse: collapse; } th, td { border: 1px solid #ccc; padding: .2rem .6rem; }
pre { background: #f4f2ee; padding: .6rem; } h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; }
"""


def take_prefect(found: Browser, address: str, folder: Path) -> None:
    """Those of PREFECT that the server has."""
    for name, (path, width, height) in PREFECT.items():
        size = {"width": width, "height": height}
        with opened(found, f"{address}{path}", viewport=size, color_scheme="light") as seen:
            seen.page.wait_for_load_state("networkidle")
            seen.page.wait_for_timeout(1_500)  # charts are drawn
            save_picture(seen.page.screenshot(), folder / f"{name}.png")


def take_page(found: Browser, page: Path, path: Path) -> None:
    """The beginning of an HTML page or a Markdown file."""
    if page.suffix == ".md":
        text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(), flags=re.DOTALL)
        body = MarkdownIt("gfm-like", {"linkify": False}).render(text)
        page = path.with_suffix(".html")
        page.write_text(f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{body}")
    with opened(found, page.absolute(), viewport={"width": WIDTH, "height": HEIGHT}) as seen:
        save_picture(_top(seen), path)


def _top(seen: Seen) -> bytes:
    height = int(seen.page.evaluate("document.documentElement.getBoundingClientRect().height"))
    seen.page.set_viewport_size({"width": WIDTH, "height": min(height, HEIGHT)})
    return seen.page.screenshot()


if __name__ == "__main__":
    what, into = sys.argv[1], Path(sys.argv[2])
    with browser() as chromium:
        if what.startswith("http"):
            take_prefect(chromium, what, into)
        else:
            take_page(chromium, Path(what), into / f"{Path(what).stem.lower()}.png")
