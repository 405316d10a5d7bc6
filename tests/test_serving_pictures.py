"""Pictures as requests: forms of any kind, hostile ones too."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from serving_app import client_of

from quickdraw_core.drawing import DrawingBatch
from quickdraw_core.formats.pictures.opening import open_picture
from quickdraw_core.formats.pictures.reading import strokes_of_picture


def picture_file(form: str = "PNG", side: int = 200) -> bytes:
    """A square and a line, black on white."""
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((40, 40, 150, 150), outline="black", width=4)
    draw.line((10, 190, 190, 170), fill="black", width=4)
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def client():
    with client_of() as client:
        yield client


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_traced_and_guessed(client, form):
    data = picture_file(form)
    response = client.post(
        "/api/guess/picture?guesses=2&show_images=true", files={"picture": ("a", data)}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    traced = strokes_of_picture(open_picture(data)).drawing
    assert answer["drawing"] == [[x, y] for x, y in traced.strokes(0)]
    assert len(answer["guesses"]) == 2
    assert answer["images"]
    again = client.post("/api/guess", json={"drawing": answer["drawing"], "guesses": 2}).json()
    assert again["guesses"] == answer["guesses"]
    assert len(DrawingBatch.from_strokes([answer["drawing"]])) == 1


def bomb() -> bytes:
    """A PNG of a few bytes that says that it has 10,000 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    size = (100_000).to_bytes(4, "big")
    head = size + size + bytes([8, 2, 0, 0, 0])
    lines = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    )


def blank() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (50, 50), "white").save(file, "PNG")
    return file.getvalue()


FILES = {
    "empty": (b"", "the picture is empty"),
    "text": (b"hello, this is text", "no picture"),
    "gif": (b"GIF89a" + bytes(50), "a GIF file"),
    "bomb": (bomb(), "pixels"),
    "cut short": (picture_file()[:150], "damaged"),
    "blank": (blank(), "shows no drawing"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_drawing_is_refused_with_a_sentence(client, name):
    data, sentence = FILES[name]
    response = client.post("/api/guess/picture", files={"picture": ("a.png", data)})
    assert response.status_code == 422
    assert sentence in response.json()["error"]


def test_forms_of_another_kind_are_refused(client):
    address, picture = "/api/guess/picture", picture_file()
    response = client.post(address, files={"file": ("a.png", picture)})
    assert response.status_code == 422
    assert "not one field 'picture', found 'file'" in response.json()["error"]
    files = [("picture", ("a.png", picture))] * 2
    assert client.post(address, files=files).status_code == 422
    files = [(f"field{n}", ("a", b"")) for n in range(20)]
    assert "more than 16 fields" in client.post(address, files=files).json()["error"]
    assert client.post(address, content=picture).status_code == 415
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = client.post(address, content=picture, headers={"content-type": kind})
        assert response.status_code == 400, response.text
    response = client.post(address, content=b"--x\r\nContent-Disp", headers={"content-type": kind})
    assert "cut short" in response.json()["error"]


def test_limits_of_pictures_are_kept():
    limits = {"picture_bytes": 4096, "picture_pixels": 10_000}
    with client_of(limits=limits) as client:
        response = client.post("/api/guess/picture", files={"picture": ("a", bytes(50_000))})
        assert response.status_code == 413
        response = client.post("/api/guess/picture", files={"picture": ("a", picture_file())})
        assert response.status_code == 422
        assert "10,000 are allowed" in response.json()["error"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    form=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    cut=st.integers(0, 3000),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5),
)
def test_damaged_pictures_are_answered(client, form, cut, changes):
    data = bytearray(picture_file(form, side=80))
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: len(data) - cut % len(data)]
    response = client.post("/api/guess/picture", files={"picture": ("a", bytes(data))})
    assert response.status_code in (200, 422), response.text


def test_a_page_may_send_a_picture_of_noise(client):
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    response = client.post("/api/guess/picture", files={"picture": ("a", file.getvalue())})
    assert response.status_code in (200, 422), response.text
