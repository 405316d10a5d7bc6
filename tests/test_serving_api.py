"""The API: what it answers, what it refuses and with which sentence, and its headers."""

import asyncio
import base64
import io
import json
import re
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_drawings import simplify
from serving_app import SQUARE, WORDS, InkRecognizer, client_of, slot_of
from strategies import drawing

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.serving.recognizer import top_guesses
from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.app import Direct, create_app
from quickdraw_core.store.store import Store

RAW = [[[10.5, 300.25, 700.0], [20.0, 90.5, 20.0]], [[400.0, 400.0], [100.0, 500.0]]]


@pytest.fixture(scope="module")
def client():
    with client_of() as client:
        yield client


def guess(client: httpx.Client, body: object, status: int = 200) -> dict:
    response = client.post("/api/guess", json=body)
    assert response.status_code == status, response.text
    return response.json()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(strokes=drawing)
def test_the_guesses_are_those_of_the_recognizer(client, strokes):
    answer = guess(client, {"drawing": strokes, "guesses": 4})
    recognizer = InkRecognizer()
    batch = DrawingBatch.from_strokes([strokes])
    (expected,) = top_guesses(recognizer.log_probabilities(batch), recognizer.label_map, 4)
    assert [(g["word"], g["probability"]) for g in answer["guesses"]] == expected
    assert answer["drawing"] == [[list(x), list(y)] for x, y in strokes]
    assert answer["model"] == {"name": "ink", "version": "1"}
    assert answer["images"] is None


@pytest.mark.parametrize("times", [False, True])
def test_raw_coordinates_are_simplified_as_by_the_ingest(client, times):
    strokes = [[*stroke, list(range(len(stroke[0])))] for stroke in RAW] if times else RAW
    expected = simplify([(np.array(x), np.array(y)) for x, y in RAW])
    assert guess(client, {"drawing": strokes})["drawing"] == [[x, y] for x, y in expected]


def test_small_integers_are_taken_as_they_are_unless_asked_otherwise(client):
    small = [[[10, 20, 30], [5, 5, 5]]]
    assert guess(client, {"drawing": small})["drawing"] == small
    assert guess(client, {"drawing": small, "simplified": True})["drawing"] == small
    simplified = [[[0, 255], [0, 0]]]
    assert guess(client, {"drawing": small, "simplified": False})["drawing"] == simplified
    timed = [[*stroke, [0, 1, 2]] for stroke in small]
    assert guess(client, {"drawing": timed})["drawing"] == simplified


def test_the_images_are_what_the_model_sees(client):
    (image,) = guess(client, {"drawing": SQUARE, "show_images": True})["images"]
    assert (image["encoding"], image["side_px"]) == ("gray", 64)
    (channel,) = image["channels"]
    assert channel["name"] == "ink"
    shown = Image.open(io.BytesIO(base64.b64decode(channel["png_base64"])))
    ((_, pixels),) = InkRecognizer().images(DrawingBatch.from_strokes([SQUARE]))
    assert np.array_equal(np.asarray(shown), pixels[0, 0])


FAULTS = {
    "not JSON": (b"{", 400, "the body is not JSON"),
    "not UTF-8": (b'{"drawing": "\xff"}', 400, "the body is not JSON"),
    "NaN": (b'{"drawing": [[[NaN], [1]]]}', 400, "the body is not JSON"),
    "deep": (b"[" * 100_000, 400, "the body is not JSON"),
    "no object": (b"[]", 422, "the body is no object"),
    "no drawing": (b"{}", 422, "the body has no drawing"),
    "unknown key": (b'{"drawing": [[[1], [1]]], "top": 3}', 422, "unknown key, found 'top'"),
    "no stroke": (b'{"drawing": []}', 422, "drawing is no list of strokes"),
    "text": (b'{"drawing": "cat"}', 422, "drawing is no list of strokes, found 'cat'"),
    "no lists": (b'{"drawing": [[1, 2]]}', 422, "stroke 1 is not two lists"),
    "four lists": (b'{"drawing": [[[1], [1], [1], [1]]]}', 422, "stroke 1 is not two lists"),
    "lengths": (b'{"drawing": [[[1], [1]], [[1, 2], [1]]]}', 422, "the lists of stroke 2 differ"),
    "no point": (b'{"drawing": [[[], []]]}', 422, "stroke 1 has no point"),
    "true": (b'{"drawing": [[[true], [1]]]}', 422, "coordinate is not a number, found True"),
    "null": (b'{"drawing": [[[null], [1]]]}', 422, "coordinate is not a number, found None"),
    "wide": (b'{"drawing": [[[1e308, -1e308], [1, 1]]]}', 422, "coordinates are too far apart"),
    "huge": (b'{"drawing": [[[' + b"9" * 400 + b"], [1]]]}", 4, ""),
    "guesses": (b'{"drawing": [[[1], [1]]], "guesses": 11}', 422, "guesses is not an integer"),
    "flag": (b'{"drawing": [[[1], [1]]], "simplified": 1}', 422, "simplified is not true or"),
    "range": (
        b'{"drawing": [[[256], [1]]], "simplified": true}',
        422,
        "coordinate is outside 0..255, found 256; a simplified drawing",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_body_is_refused_with_a_sentence(client, name):
    body, status, sentence = FAULTS[name]
    response = client.post(
        "/api/guess", content=body, headers={"content-type": "application/json"}
    )
    assert str(response.status_code).startswith(str(status)), response.text
    assert sentence in response.json()["error"]


def test_guesses_past_fastapi_are_answered_as_by_it():
    """Both call one function; the answers to what it raises are made in two places."""

    async def run() -> None:
        app = create_app(slot_of(InkRecognizer(fails_at=(7, 7))))
        direct = app._app
        assert isinstance(direct, Direct)
        asked = [(body, "application/json") for body, _, _ in FAULTS.values()]
        right = (SQUARE, RAW, [[[7, 7], [7, 7]]])  # of which the last one fails
        asked += [(json.dumps({"drawing": d}).encode(), "application/json") for d in right]
        asked.append((b"{}", "text/plain"))
        clients = [
            httpx.AsyncClient(
                transport=httpx.ASGITransport(each, raise_app_exceptions=False),
                base_url="http://localhost",
            )
            for each in (direct, direct._app)
        ]
        for body, kind in asked:
            past, by = [
                await client.post("/api/guess", content=body, headers={"content-type": kind})
                for client in clients
            ]
            assert (past.status_code, past.headers) == (by.status_code, by.headers), body
            assert past.content == by.content
        assert past.status_code == 415
        app.close()

    asyncio.run(run())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    body=st.one_of(
        st.binary(max_size=40),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {"drawing": st.lists(st.lists(st.lists(json_values)))},
            optional={
                "guesses": json_values,
                "simplified": json_values,
                "show_images": json_values,
            },
        ).map(lambda value: json.dumps(value).encode()),
        st.lists(
            st.lists(st.lists(st.floats(), min_size=1, max_size=3), min_size=2, max_size=3)
        ).map(lambda value: json.dumps({"drawing": value}).encode()),
    )
)
def test_hostile_json_is_answered(client, body):
    response = client.post(
        "/api/guess", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code in (200, 400, 422), response.text
    if response.status_code != 200:
        assert response.json()["error"]


def test_limits_are_kept_and_named():
    limits = {"body_bytes": 2000, "strokes": 3, "points": 10}
    with client_of(limits=limits) as client:
        stroke = [[1, 2], [3, 4]]
        assert guess(client, {"drawing": [stroke] * 3})
        error = guess(client, {"drawing": [stroke] * 4}, 422)["error"]
        assert error == "the drawing has 4 strokes; at most 3 are taken"
        error = guess(client, {"drawing": [[[1] * 11, [1] * 11]]}, 422)["error"]
        assert error == "the drawing has 11 points; at most 10 are taken"
        response = client.post("/api/guess", json={"drawing": [[[1] * 2000, [1] * 2000]]})
        assert response.status_code == 413
        assert response.json()["error"].startswith("the body is longer than 2,000 bytes")
        assert response.headers["connection"] == "close"


def test_a_body_without_a_length_is_limited_too():
    with client_of(limits={"body_bytes": 2000}) as client:
        response = client.post(
            "/api/guess",
            content=(b" " * 100 for _ in range(30)),
            headers={"content-type": "application/json"},
        )
        assert response.status_code == 413


def test_another_media_type_is_refused(client):
    response = client.post("/api/guess", content=b"{}", headers={"content-type": "text/plain"})
    assert response.status_code == 415
    assert "application/json, found 'text/plain'" in response.json()["error"]


def test_words_and_model(client):
    assert client.get("/api/words").json() == {"words": list(WORDS)}
    model = client.get("/api/model").json()
    assert (model["name"], model["words"], model["metrics"]) == ("ink", 5, None)
    assert model["limits"]["points"] == 20_000


def test_without_a_model_the_server_says_so():
    slot = ModelSlot()
    with client_of(slot) as client:
        assert client.get("/healthz").status_code == 200
        for response in (
            client.get("/readyz"),
            client.get("/api/words"),
            client.get("/api/model"),
            client.post("/api/guess", json={"drawing": SQUARE}),
        ):
            assert response.status_code == 503
            assert "no model has been loaded yet" in response.json()["error"]
            assert response.headers["retry-after"]
        slot.swap(InkRecognizer())
        assert client.get("/readyz").json() == {"status": "ok"}
        assert guess(client, {"drawing": SQUARE})


def test_a_model_that_cannot_guess_is_not_put_in():
    slot = slot_of()
    former = slot.current
    with pytest.raises(ArithmeticError):
        slot.swap(InkRecognizer(fails_at=(0, 0)))
    assert slot.current is former


def test_drawings_of_a_word_come_from_the_store(store: Store):
    with client_of(store=store.path) as client:
        for word in ("ice cream", "ice_cream"):
            drawings = client.get(f"/api/words/{word}/drawings?count=5").json()["drawings"]
            assert len(drawings) == 5
            assert len(DrawingBatch.from_strokes(drawings)) == 5
        response = client.get("/api/words/ice creem/drawings")
        assert response.status_code == 404
        assert "did you mean 'ice cream'?" in response.json()["error"]
        assert client.get("/api/words/star/drawings?count=0").status_code == 422
    with client_of() as client:
        response = client.get("/api/words/star/drawings")
        assert response.status_code == 404
        assert "--store STORE" in response.json()["error"]


def test_a_store_may_come_later_and_be_replaced(store: Store, tmp_path: Path):
    late = tmp_path / "store"
    with client_of(store=late) as client:

        def ask() -> httpx.Response:
            return client.get("/api/words/sun/drawings?count=3")

        for made in range(2):
            response = ask()
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert "no drawings to show yet" in response.json()["error"]
            assert str(tmp_path) not in response.text
            shutil.copytree(store.path, late)
            assert len(ask().json()["drawings"]) == 3, made
            shutil.rmtree(late)


def test_errors_have_a_form_of_their_own(client):
    for response, status in (
        (client.get("/nothing"), 404),
        (client.get("/api/guess"), 405),
        (client.post("/api/words"), 405),
        (client.get("/api/words/sun/drawings?count=many"), 422),
    ):
        assert response.status_code == status or response.status_code == 404
        assert set(response.json()) == {"error"}


def test_every_answer_has_strict_headers():
    slot = slot_of(InkRecognizer(fails_at=(7, 7)))
    with client_of(slot) as client:
        answers = [client.get(path) for path in ("/docs", "/nothing", "/metrics", "/api/words")]
        answers.append(client.post("/api/guess", json={"drawing": [[[7, 7], [7, 7]]]}))
        assert answers[-1].status_code == 500
        for response in answers:
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-origin" not in response.headers


def test_other_origins_are_allowed_only_if_asked_for():
    origin = {"origin": "https://example.org"}
    with client_of() as client:
        answer = client.get("/api/words", headers=origin)
        assert "access-control-allow-origin" not in answer.headers
    with client_of(allow_origin=["https://example.org"]) as client:
        answer = client.get("/api/words", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        answer = client.get("/api/words", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in answer.headers
        asked = origin | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        assert client.options("/api/guess", headers=asked).status_code == 200


def test_the_metrics_count_what_was_answered():
    with client_of() as client:
        for _ in range(3):
            guess(client, {"drawing": SQUARE})
        guess(client, {}, 422)
        client.get("/nothing/at/all")
        text = client.get("/metrics").text
    counts = dict(re.findall(r"^(quickdraw_\S+) ([\d.]+)$", text, re.MULTILINE))
    requests = 'quickdraw_requests_total{method="%s",route="%s",status="%d"}'
    assert float(counts[requests % ("POST", "/api/guess", 200)]) == 3
    assert float(counts[requests % ("POST", "/api/guess", 422)]) == 1
    assert float(counts[requests % ("GET", "other", 404)]) == 1
    assert float(counts['quickdraw_request_seconds_count{route="/api/guess"}']) == 4
    assert float(counts["quickdraw_batch_drawings_sum"]) == 3
    assert float(counts["quickdraw_queue_drawings"]) == 0
    assert float(counts['quickdraw_model_info{name="ink",version="1"}']) == 1


def test_the_documentation_needs_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    document = client.get("/openapi.json").json()
    for path in document["paths"]:
        assert path in page
    assert "/api/guess" in document["paths"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    for address in loaded:
        assert address.startswith("/")
        assert client.get(address).status_code == 200
    assert "<script" not in page
    assert "style=" not in page
