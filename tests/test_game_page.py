"""The page to draw on, in real Chromium on a real server: guesses, the game, what leaves it."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from drawn_pictures import picture_of
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from browser import browser, sideways  # isort: skip
from game_page import (
    FACE,
    WORDS,
    Finger,
    SayingRecognizer,
    copy_picture,
    downloaded,
    draw,
    drop,
    page_at,
    rows_of,
    served,
    settle,
    shown_guesses,
)

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.reading import strokes_of_picture
from quickdraw_core.ingest.config import IngestConfig
from quickdraw_core.ingest.ingest import ingest
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.sources.doodles.generator import generate_csvs
from quickdraw_core.store.store import Store

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True}
expect.set_options(timeout=60_000)  # none of them is to be waited for; the machine may be busy
LINE = [[[0.0, 255.0], [0.0, 255.0]]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def doodles(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a few drawings of each word."""
    folder = tmp_path_factory.mktemp("doodles")
    generate_csvs(folder / "csv", WORDS, 20, seed=1)
    config = {"source": folder / "csv", "store": folder / "store", "test_per_class": 2}
    ingest(IngestConfig.parse(config | {"workers": 1}))
    return Store.open(folder / "store")


@pytest.fixture(scope="module")
def slot() -> ModelSlot:
    return ModelSlot()


@pytest.fixture(scope="module")
def address(slot: ModelSlot, doodles: Store) -> Iterator[str]:
    with served(slot, doodles) as found:
        slot.swap(SayingRecognizer())
        # The first drawing of all waits until what simplifies it is compiled.
        httpx.post(f"{found}/api/guess", json={"drawing": LINE}, timeout=60)
        yield found


@pytest.fixture
def model(slot: ModelSlot) -> SayingRecognizer:
    """The server's model during one test."""
    recognizer = SayingRecognizer()
    slot.swap(recognizer)
    recognizer.forget()
    return recognizer


def outline(page: Page) -> str:
    """Of the paper while the keyboard draws; then it also shows where its pen is."""
    return str(page.locator("#pad").evaluate("pad => getComputedStyle(pad).outlineStyle"))


def begin_round(page: Page) -> str:
    """Starts a round of the game; returns its word."""
    expect(page.locator("#card")).to_be_visible()
    word = page.locator("#card-word").inner_text()
    page.locator("#card-start").click()
    return word


def play(page: Page, model: SayingRecognizer, knows: int) -> list[str]:
    """Plays a game to its end, on a clock of the test's; the model knows the first drawings."""
    words = []
    for number in range(6):
        word = begin_round(page)
        words.append(word)
        model.says = word if number < knows else next(w for w in WORDS if w != word)
        draw(page, FACE[:1])  # recognised, the next word comes soon, drawn on or not
        settle(page)
        if number >= knows:
            page.clock.run_for(20_000)
            expect(page.locator("#speech")).to_have_text("Sorry, I couldn’t guess it.")
        else:
            expect(page.locator("#speech")).to_contain_text("Oh I know, it’s")
        page.clock.run_for(2_000)
    return words


def test_the_guesses_are_those_of_the_drawing_on_the_paper(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    model.says, model.probability = "fish", 0.7
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        draw(page, FACE)
        settle(page)
        assert outline(page) == "none"
        assert shown_guesses(page)[:2] == [("fish", "70 %"), ("clock", "9 %")]
        expect(page.locator("#speech")).to_have_text("I see a fish…")
        model.probability = 0.85
        draw(page, LINE)
        settle(page)
        expect(page.locator("#speech")).to_have_text("Oh I know, it’s a fish!")
        assert shown_guesses(page)[0] == ("fish", "85 %")


def test_while_a_stroke_is_drawn_it_is_guessed_and_the_newest_drawing_wins(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        box = page.locator("#pad").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 50, box["y"] + 50)
        page.mouse.down()
        with page.expect_response("**/api/guess"):
            page.mouse.move(box["x"] + 150, box["y"] + 90)  # and the pen stays down
        model.may_go.clear()
        model.batches.clear()
        model.drawings.clear()
        page.mouse.up()
        for _ in range(4):
            draw(page, LINE)
        while not model.batches:  # one question is under way
            page.wait_for_timeout(20)
        model.may_go.set()
        settle(page)
        assert len(model.drawings) == 2
        assert len(model.drawings[-1]) == 5  # strokes: the newest drawing


def test_undo_redo_and_clear(chromium: Browser, address: str, model: SayingRecognizer) -> None:
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page

        def strokes() -> int:
            settle(page)
            return len(model.drawings[-1])

        draw(page, FACE)
        assert strokes() == 4
        page.locator("#undo").click()
        assert strokes() == 3
        page.keyboard.press("Control+z")
        assert strokes() == 2
        page.keyboard.press("Control+Shift+z")
        page.keyboard.press("Control+y")
        assert strokes() == 4
        expect(page.locator("#redo")).to_be_disabled()
        page.locator("#clear").click()
        assert shown_guesses(page) == []
        expect(page.locator("#clear")).to_be_disabled()
        page.locator("#undo").click()
        assert strokes() == 4


def test_the_game_runs_to_its_end(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(chromium, address) as seen:
        page = seen.page
        page.clock.install()
        page.get_by_role("link", name="Play").last.click()
        words = play(page, model, knows=4)
        assert len(set(words)) == 6
        expect(page.get_by_role("heading", level=1)).to_have_text("4 of 6 recognised")
        cards = page.locator("#rounds article")
        assert cards.locator("h2").all_inner_texts() == words
        assert len(page.locator("#rounds .right").all()) == 4
        expect(cards.nth(0).locator(".verdict")).to_contain_text("Recognised after")
        expect(cards.nth(5).locator(".verdict")).to_contain_text("I saw")
        expect(cards.locator(".others [role=img]")).to_have_count(6)
        assert len(cards.nth(0).locator(".others canvas").all()) == 8
        rows = rows_of(*downloaded(page, "#save-game"))
        assert [(row["word"], row["recognized"]) for row in rows] == [
            (word, number < 4) for number, word in enumerate(words)
        ]
        page.get_by_role("link", name="Play again").click()
        assert begin_round(page)
        page.locator("#skip").click()
        page.clock.run_for(2_000)
        page.get_by_role("link", name="Stop playing").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("You draw.")


def test_a_word_that_is_guessed_only_as_time_runs_out_counts(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    model.probability = 0.3
    with page_at(chromium, address, "#play") as seen:
        page = seen.page
        page.clock.install()
        model.says = begin_round(page)
        draw(page, FACE)
        settle(page)
        assert shown_guesses(page)[0][0] == model.says
        expect(page.locator("#seconds")).not_to_have_text("0 s")  # it goes on: 30 % is not sure
        page.clock.run_for(20_000)
        settle(page)
        page.clock.run_for(2_000)
        expect(page.locator("#card-round")).to_have_text("Word 2 of 6")
        page.get_by_role("link", name="Stop playing").click()
        page.goto(f"{address}/#mine")
        expect(page.locator("#album .right")).to_have_count(1)


def test_downloaded_drawings_can_be_ingested(
    chromium: Browser, address: str, model: SayingRecognizer, tmp_path: Path
) -> None:
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        page.get_by_text("Keep, share, open").click()
        kept = {}
        for word, drawing in (("sun", FACE), ("ice cream", [*LINE, *FACE]), ("sun", LINE)):
            draw(page, drawing)
            settle(page)
            page.locator("#word").fill(word)
            page.get_by_role("button", name="Keep").click()
            kept.setdefault(word, []).append(model.drawings[-1])
            page.locator("#clear").click()
        page.get_by_role("link", name="My drawings").click()
        name, content = downloaded(page, "#save-all")
        page.reload()
        expect(page.locator("#album article")).to_have_count(3)  # they outlive the page
        page.get_by_role("button", name=re.compile("^Delete: ice cream")).click()
        one_word = downloaded(page, "#save-all")
    assert (name, one_word[0]) == ("my-drawings.zip", "sun.ndjson")
    assert [row["word"] for row in rows_of(*one_word)] == ["sun", "sun"]
    (tmp_path / name).write_bytes(content)
    store = tmp_path / "store"
    config = {"source": tmp_path / name, "store": store, "max_rejected": 0.0, "workers": 1}
    result = ingest(IngestConfig.parse(config))
    assert (result.rows_read, result.rows_kept) == (3, 3)
    opened = Store.open(store)
    assert opened.label_map.words == ("ice cream", "sun")
    for file in opened.manifest.files:
        table = opened.storage.read_table(file.path, ["x", "y", "stroke_lengths"])
        columns = (table.column(axis).combine_chunks() for axis in table.column_names)
        batch = DrawingBatch.from_columns(*columns)
        assert [batch.strokes(row) for row in range(len(batch))] == kept[file.word]


def test_a_shared_link_shows_the_same_drawing(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(
        chromium, address, "#draw", permissions=["clipboard-read", "clipboard-write"]
    ) as seen:
        page = seen.page
        page.get_by_text("Keep, share, open").click()
        page.locator("#word").fill("fish")
        draw(page, FACE)
        page.get_by_role("button", name="Copy link").click()
        expect(page.locator("#notice")).to_contain_text("The link is copied")
        link = page.evaluate("navigator.clipboard.readText()")
        settle(page)
        drawing = model.drawings[-1]
    assert len(link) < 150
    with page_at(chromium, address, link.removeprefix(f"{address}/")) as seen:
        settle(seen.page)
        assert model.drawings[-1] == drawing
        expect(seen.page.locator("#word")).to_have_value("fish")
        draw(seen.page, LINE)  # drawn on, it is a raw drawing
        settle(seen.page)
        assert len(model.drawings[-1]) == 5


def test_links_keep_every_drawing_and_damaged_ones_are_refused(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    rng = np.random.default_rng(7)
    drawings = [
        [rng.integers(0, 256, (2, rng.integers(1, most))).tolist() for _ in range(3)]
        for most in (2, 5, 40, 300)
    ]
    with page_at(chromium, address) as seen:
        damaged = seen.page.evaluate(
            """async (drawings) => {
                const { encodeLink, decodeLink } = await import("/static/forms.js");
                for (const drawing of drawings) {
                    const back = decodeLink(encodeLink(drawing, "ice cream & co"));
                    if (JSON.stringify(back.drawing) !== JSON.stringify(drawing)) throw drawing;
                    if (back.word !== "ice cream & co") throw back.word;
                }
                const [, , link] = drawings.map((drawing) => encodeLink(drawing));
                const cut = ["#drawing=", "#drawing=$", link.slice(0, -8), "#drawing=AAAA"];
                return cut.map((text) => {
                    try { decodeLink(text); return ""; } catch (error) { return error.message; }
                });
            }""",
            drawings,
        )
        assert damaged == ["This link holds no whole drawing; copy it once more."] * 4
        seen.page.goto(f"{address}/#constructor")
        expect(seen.page.locator("#home")).to_be_visible()
        seen.page.goto(f"{address}/#drawing=AAAA")
        expect(seen.page.locator("#notice")).to_contain_text("holds no whole drawing")
        seen.page.goto(f"{address}/#drawing=Av8A%5F%5F8&word=unicorn")
        seen.page.goto(f"{address}/#drawing=AgD_AP8&word=unicorn")
        expect(seen.page.locator("#notice")).to_contain_text("does not know the word “unicorn”")


def test_a_file_of_strokes_is_opened(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    line = json.dumps({"word": "star", "drawing": [[[0, 255], [7, 9]]]}).encode()
    files = [
        {"name": "star.ndjson", "mimeType": "application/json", "buffer": line},
        {"name": "bad.ndjson", "mimeType": "application/json", "buffer": b"{}\n"},
    ]
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        page.get_by_text("Keep, share, open").click()
        page.locator("#file").set_input_files([files[0]])
        expect(page.locator("#word")).to_have_value("star")
        settle(page)
        assert model.drawings[-1] == [([0, 255], [7, 9])]
        page.locator("#file").set_input_files([files[1]])
        expect(page.locator("#notice")).to_contain_text("no drawing in Google's ndjson form")


def test_a_picture_is_dropped_or_pasted_anywhere_but_in_a_game(
    chromium: Browser, address: str, model: SayingRecognizer, tmp_path: Path
) -> None:
    file = io.BytesIO()
    picture = picture_of([(x, y) for x, y in FACE], "screenshot", 2, longest_px=500)
    Image.open(io.BytesIO(picture)).convert("RGB").save(file, "PNG")
    (tmp_path / "face.png").write_bytes(file.getvalue())
    (tmp_path / "bad.png").write_bytes(b"no picture")
    drawing = strokes_of_picture(open_picture(file.getvalue())).drawing.strokes(0)
    model.says = "fish"
    with page_at(chromium, address, permissions=["clipboard-read", "clipboard-write"]) as seen:
        page = seen.page

        def is_guessed() -> bool:
            expect(page.locator("#speech")).to_have_text("Oh I know, it’s a fish!")
            settle(page)
            return all(asked == drawing for asked in model.drawings)

        drop(page, tmp_path / "face.png")
        expect(page.locator("#studio-title")).to_have_text("Draw anything")
        assert is_guessed()
        page.locator("#clear").click()
        copy_picture(page, file.getvalue())
        page.keyboard.press("Control+v")
        assert is_guessed()
        page.goto(f"{address}/#play")
        begin_round(page)
        model.forget()
        drop(page, tmp_path / "face.png")
        expect(page.locator("#notice")).to_have_text("A game is on: draw by hand.")
        page.keyboard.press("Control+v")
        page.goto(f"{address}/#draw")
        drop(page, tmp_path / "bad.png")
        expect(page.locator("#notice")).to_contain_text("o picture: it begins with")
        assert model.drawings == []


def test_a_stroke_drawn_on_an_opened_file_goes_on_in_time(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    def file(*times: int) -> Any:
        line = json.dumps({"word": "../../star", "drawing": [[[0, 255], [7, 9], times]]})
        return {"name": "a.ndjson", "mimeType": "application/json", "buffer": line.encode()}

    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        page.get_by_text("Keep, share, open").click()
        page.locator("#file").set_input_files([file(0)])
        expect(page.locator("#notice")).to_contain_text("no drawing in Google's ndjson form")
        page.locator("#file").set_input_files([file(0, 90_000)])
        expect(page.locator("#word")).to_have_value("../../star")
        draw(page, LINE)
        settle(page)
        name, content = downloaded(page, "#strokes")
    ((_, _, opened), (_, _, drawn)) = rows_of(name, content)[0]["drawing"]
    assert name == "_star.ndjson"
    assert opened == [0, 90_000]
    assert 90_000 <= drawn[0] <= drawn[-1] < 120_000


def test_what_the_model_sees_stands_beside_the_paper(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        draw(page, FACE)
        page.get_by_text("What the model sees").click()
        picture = page.get_by_role("img", name="ink, 64 by 64 pixels")
        expect(picture).to_be_visible()
        rgba = picture.evaluate("c => [...c.getContext('2d').getImageData(0, 0, 64, 64).data]")
        batch = DrawingBatch.from_strokes([model.drawings[-1]])
        ((_, images),) = model.images(batch)
        assert rgba[::4] == images[0, 0].ravel().tolist()


def test_everything_works_by_keyboard_alone(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(chromium, address) as seen:
        page = seen.page
        press = page.keyboard.press

        def tab_to(name: str) -> None:
            for _ in range(30):
                press("Tab")
                if (
                    page.evaluate(
                        "document.activeElement.textContent || document.activeElement.id"
                    )
                    == name
                ):
                    return
            raise AssertionError(f"no way by Tab to {name}")

        tab_to("Play")
        press("Enter")
        expect(page.locator("#card")).to_be_visible()
        model.says, model.probability = page.locator("#card-word").inner_text(), 0.3
        press("Enter")
        expect(page.locator("#pad")).to_be_focused()
        press("Space")
        expect(page.locator("#pen")).to_have_text("Pen down")
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowLeft"):
            press(key)
        press("Space")
        expect(page.locator("#pen")).to_have_text("Pen up")
        assert outline(page) == "solid"
        model.probability = 0.9
        press("Space")
        press("Space")
        expect(page.locator("#speech")).to_contain_text("Oh I know, it’s")
        expect(page.locator("#card-round")).to_have_text("Word 2 of 6")
        press("Escape")
        expect(page.get_by_role("heading", level=1)).to_contain_text("You draw.")
        tab_to("Draw")
        press("Enter")
        expect(page.locator("#studio-title")).to_be_focused()
        tab_to("pad")
        press("Space")
        page.keyboard.down("ArrowRight")
        page.keyboard.down("ArrowDown")  # both: slanted
        page.keyboard.up("ArrowRight")
        page.keyboard.up("ArrowDown")
        press("Escape")
        settle(page)
        assert model.drawings[-1] == [([0, 128, 255], [0, 0, 128])]
        press("Delete")
        expect(page.locator("#clear")).to_be_disabled()


def test_touch_draws_and_the_palm_beside_a_pen_does_not(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(chromium, address, "#draw", **PHONE) as seen:
        page = seen.page
        finger = Finger(page)
        finger.touch((20, 20), (200, 200))
        settle(page)
        assert len(model.drawings[-1]) == 1
        finger.pen((40, 40), (60, 200))
        finger.touch((200, 100), (220, 120))  # the hand that holds it
        settle(page)
        assert len(model.drawings[-1]) == 2
        finger.touch_begins((200, 100), (220, 120))  # the hand lies down before the pen does
        assert page.evaluate("scrollY") == 0


def test_a_touch_that_the_browser_takes_back_leaves_empty_paper(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    with page_at(chromium, address, "#draw", **PHONE) as seen:
        page = seen.page
        Finger(page).touch_begins((20, 20), (200, 200))
        page.locator("#pad").evaluate(
            """pad => {
                for (let id = 0; id < 20; id++)
                    pad.dispatchEvent(new PointerEvent("pointercancel", { pointerId: id }));
            }"""
        )
        expect(page.locator("#clear")).to_be_disabled()
        page.wait_for_timeout(500)  # longer than until the next guess of a stroke under way
        settle(page)
        expect(page.locator("#notice")).to_have_text("")
        assert shown_guesses(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_view(
    chromium: Browser, address: str, model: SayingRecognizer, scheme: str
) -> None:
    found: list[tuple[str, str]] = []
    axe = Axe()

    def check(page: Page, view: str) -> None:
        violations = axe.run(page).response["violations"]
        serious = [v["id"] for v in violations if v["impact"] in ("serious", "critical")]
        found.extend((view, name) for name in serious)

    with page_at(chromium, address, color_scheme=scheme, reduced_motion="reduce") as seen:
        page = seen.page
        page.clock.install()
        expect(page.locator("#wall canvas").first).to_be_visible()
        check(page, "home")
        page.goto(f"{address}/#draw")
        for summary in page.locator("summary").all():
            summary.click()
        draw(page, FACE)
        settle(page)
        page.locator("#word").fill("sun")
        page.get_by_role("button", name="Keep").click()
        expect(page.locator("#channels canvas")).to_be_visible()
        check(page, "draw")
        page.goto(f"{address}/#play")
        expect(page.locator("#card")).to_be_visible()
        check(page, "card")
        play(page, model, knows=3)
        expect(page.locator("#rounds .others [role=img]")).to_have_count(6)
        check(page, "result")
        page.goto(f"{address}/#mine")
        check(page, "mine")
        assert (
            page.locator(".button").first.evaluate(
                "element => getComputedStyle(element).transitionDuration"
            )
            == "0s"
        )
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_each_view_without_scrolling_sideways(
    chromium: Browser, address: str, model: SayingRecognizer, scheme: str
) -> None:
    with page_at(chromium, address, **PHONE, color_scheme=scheme) as seen:
        page = seen.page
        page.clock.install()
        for view in ("#home", "#draw", "#mine"):
            page.goto(f"{address}/{view}")
            assert sideways(page) <= 0, view
        page.goto(f"{address}/#play")
        begin_round(page)
        box = page.locator("#pad").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 740  # the whole paper, under the word and the clock
        assert sideways(page) <= 0
        dark = (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        )
        assert dark == (scheme == "dark")


def test_without_a_model_the_page_says_so_and_begins_once_there_is_one(chromium: Browser) -> None:
    slot = ModelSlot()
    slot.missing = "there is no champion yet; promote a model"
    with served(slot) as address, page_at(chromium, address, "#play") as seen:
        notice = seen.page.locator("#notice")
        expect(notice).to_have_text("There is no champion yet; promote a model")
        expect(seen.page.locator("#card")).to_be_hidden()
        slot.swap(SayingRecognizer())
        expect(seen.page.locator("#card")).to_be_visible(timeout=30_000)
        expect(notice).to_have_text("")


def test_a_server_that_went_away_is_waited_for(chromium: Browser) -> None:
    slot = ModelSlot()
    slot.swap(SayingRecognizer())
    with served(slot) as address:
        port = int(address.rpartition(":")[2])
        context: Any = page_at(chromium, address, "#draw")
        seen = context.__enter__()
        expect(seen.page.locator("#words option")).to_have_count(len(WORDS))
    draw(seen.page, FACE)
    notice = seen.page.locator("#notice")
    expect(notice).to_contain_text("The server does not answer. Nothing is lost")
    draw(seen.page, LINE)
    with served(slot, port=port):
        settle(seen.page)
        expect(notice).to_have_text("")
        assert len(shown_guesses(seen.page)) == 5
        context.__exit__(None, None, None)


def test_a_drawing_that_was_cleared_is_not_sent_again_and_the_next_one_is_guessed(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"error": "busy"}}
    with page_at(chromium, address, "#draw") as seen:
        page = seen.page
        for drawn_next in (LINE, []):
            page.route("**/api/guess", lambda route: route.fulfill(**busy), times=1)
            with page.expect_response("**/api/guess"):
                draw(page, FACE)
            page.locator("#clear").click()
            model.forget()
            draw(page, drawn_next)
            settle(page)
            assert [len(drawing) for drawing in model.drawings] == [1] * len(drawn_next)
            assert len(shown_guesses(page)) == (5 if drawn_next else 0)
            if drawn_next:
                page.locator("#clear").click()


def test_an_empty_paper_is_not_recognised(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    model.probability = 0.3
    with page_at(chromium, address, "#play") as seen:
        page = seen.page
        model.says = begin_round(page)
        draw(page, FACE)
        settle(page)
        page.locator("#clear").click()
        page.locator("#skip").click()
        expect(page.locator("#speech")).to_have_text("Sorry, I couldn’t guess it.")


def test_another_model_ends_a_round_whose_word_it_lacks(
    chromium: Browser, address: str, slot: ModelSlot, model: SayingRecognizer
) -> None:
    with page_at(chromium, address, "#play") as seen:
        page = seen.page
        word = begin_round(page)
        slot.swap(SayingRecognizer(words=[w for w in WORDS if w != word], version="2"))
        draw(page, FACE)
        expect(page.locator("#notice")).to_contain_text(f"does not know “{word}”")
        expect(page.locator("#card-round")).to_have_text("Word 2 of 6")


def test_the_voice_speaks_only_if_it_is_switched_on(
    chromium: Browser, address: str, model: SayingRecognizer
) -> None:
    model.says = "star"
    with page_at(chromium, address) as seen:
        page = seen.page
        page.add_init_script(
            "window.said = []; speechSynthesis.speak = (what) => window.said.push(what.text);"
        )
        page.goto(f"{address}/?#draw")
        draw(page, FACE)
        settle(page)
        assert page.evaluate("said") == []
        page.get_by_role("button", name="Voice").click()
        assert page.evaluate("said") == ["Oh I know, it’s a star!"]
