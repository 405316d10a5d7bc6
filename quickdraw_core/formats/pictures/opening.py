"""The bytes of a picture's file → its pixels: PNG, JPEG and WebP, within limits.

The size is read from the header and checked before a pixel is decoded, so that a small file that
unpacks to gigabytes costs nothing. Only these three decoders are ever asked.
"""

import io
import re
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from quickdraw_core.drawing import UInt8Array
from quickdraw_core.errors import PictureError, first_line

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 32 << 20
MAX_PIXELS = 50_000_000
"""Of a picture as its header says: a phone's largest photos have 50 megapixels."""

WORK_PX = 1200
"""The longer side that is read at; larger pictures are scaled down while they are opened."""

MAX_SCANS = 100
"""Of a JPEG: each goes over all of its pixels. Programs write ten or so."""

FORMATS = ("PNG", "JPEG", "WEBP")
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
"""Of a segment, as they are between segments and at the end of a scan's data."""
_KNOWN = "give a PNG, JPEG or WebP"
_OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
}


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with these bytes (12 will do) is a PNG, JPEG or WebP."""
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def open_picture(
    data: bytes, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> UInt8Array:
    """The pixels of a picture, upright: uint8 [H, W, 3], or [H, W, 4] if it has transparency.

    Of an animation, the first frame. A picture whose longer side is beyond `WORK_PX` is scaled
    down. Raises `PictureError`: too large, of another form, damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if len(data) > max_bytes:
        raise PictureError(
            f"the picture has {len(data):,} bytes, and {max_bytes:,} are allowed; save it smaller"
        )
    if not data:
        raise PictureError(f"the picture is empty; {_KNOWN}")
    if not is_picture(data[:12]):
        raise PictureError(f"this is {kind_of(data)}; {_KNOWN}")
    if data.startswith(b"\xff\xd8") and _has_too_many_scans(data):
        raise PictureError(f"the picture has more than {MAX_SCANS} scans; save it as PNG")
    # Our own limit, below, is smaller than the one that this warns of.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise _too_many_pixels(f"{width:,} x {height:,} pixels", max_pixels)
            # A JPEG is decoded at a half, a quarter or an eighth of its size.
            longest = max(width, height, WORK_PX)
            wanted = [max(1, side * WORK_PX // longest) for side in (width, height)]
            picture.draft(None, (wanted[0], wanted[1]))
            picture.load()
            upright: Image.Image = picture
            with suppress(Exception):  # metadata that cannot be read turns nothing
                upright = ImageOps.exif_transpose(picture)
            return _pixels(upright)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels("far more pixels", max_pixels) from error
    except UnidentifiedImageError as error:
        raise PictureError(
            f"the picture is damaged: its header cannot be read; {_KNOWN}"
        ) from error
    except MemoryError as error:
        raise PictureError("the picture does not fit into memory; save it smaller") from error
    except Exception as error:  # whatever a decoder makes of broken bytes
        raise PictureError(
            f"the picture is damaged or cut short: {first_line(error)}; save or fetch it again"
        ) from error


def _has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG does, by its markers up to its end; what follows may be anything."""
    scans, place = 0, 2
    while (marker := _MARKER.search(data, place)) is not None and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        if scans > MAX_SCANS:
            return True
        end = marker.end()
        place = end + int.from_bytes(data[end : end + 2], "big")
    return False


def _too_many_pixels(pixels: str, limit: int) -> PictureError:
    return PictureError(f"the picture has {pixels}, and {limit:,} are allowed; save it smaller")


def _pixels(picture: "Image.Image") -> UInt8Array:
    """All modes as 8 bits of RGB or RGBA, scaled down."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # 16 bit gray
        values = np.asarray(picture)
        scale = 257 if values.max(initial=0) > 255 else 1
        picture = Image.fromarray(np.clip(values // scale, 0, 255).astype(np.uint8))
    has_alpha = "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info
    factor = max(1, max(picture.size) // WORK_PX)
    if picture.mode in ("RGB", "L") and not has_alpha and factor > 1:
        picture = picture.reduce(factor)
        factor = 1
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    longest = max(picture.size)
    if longest > WORK_PX:
        size = tuple(max(1, round(side * WORK_PX / longest)) for side in picture.size)
        # By areas, so that a thin line stays; with the alpha multiplied in, as it should be.
        picture = picture.resize((size[0], size[1]), Image.Resampling.BOX, reducing_gap=2.0)
    return np.array(picture, np.uint8)


def kind_of(data: bytes) -> str:
    """What a file is that is no picture of ours, for a message."""
    for head, name in _OTHERS.items():
        if data.startswith(head):
            return f"a {name} file"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "a HEIC photo"
    if data[4:12] == b"ftypavif":
        return "an AVIF picture"
    return f"no picture: it begins with {data[:8]!r}"
