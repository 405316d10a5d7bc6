"""A form with a picture → a drawing to guess, or `Refused` with a sentence."""

from typing import Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from quickdraw_core.errors import InputError, ReaderError
from quickdraw_core.formats.pictures.processes import PictureProcesses
from quickdraw_core.formats.strokes import Packed
from quickdraw_core.serving.web.answers import Refused, unavailable
from quickdraw_core.serving.web.config import Limits

FIELD = "picture"
_FORM_BYTES = 1 << 14
"""Of a form around its picture."""
_MAX_PARTS = 16
_REPAIR_SECONDS = 60
"""After which another try may do where pictures cannot be read at all."""
_EXAMPLE = "curl -F picture=@FILE"


def picture_body() -> dict[str, Any]:
    """What the OpenAPI document says about the body."""
    picture = {
        "type": "string",
        "format": "binary",
        "contentMediaType": "image/png",
        "description": "PNG, JPEG or WebP",
    }
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: picture}}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def boundary_of(request: Request) -> bytes:
    """What is between the parts of a form, by its header. Raises `Refused`."""
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refused(
            400, f"the header Content-Type has no boundary; send it as by {_EXAMPLE}", closes=True
        )
    return boundary


def form_bytes(limits: Limits) -> int:
    """How long a form with a picture may be."""
    return limits.picture_bytes + _FORM_BYTES


def picture_in(body: bytes, boundary: bytes) -> bytes:
    """The file in the field `picture` of a form. Raises `Refused`."""
    fields = form_fields(body, boundary)
    if len(fields.get(FIELD, ())) != 1:
        found = ", ".join(map(repr, fields)) or "none"
        raise Refused(
            422, f"the form has not one field {FIELD!r}, found {found}; send it as by {_EXAMPLE}"
        )
    return fields[FIELD][0]


def form_fields(body: bytes, boundary: bytes) -> dict[str, list[bytes]]:
    """The fields of a multipart form, by name. It is in memory already, so it is not written to
    files, as Starlette would. Raises `Refused` (400).
    """
    fields: dict[str, list[bytes]] = {}
    name, value, header = b"", bytearray(), [bytearray(), bytearray()]
    is_ended, parts = False, 0

    def begin_part() -> None:
        nonlocal name, value, parts
        parts += 1
        if parts > _MAX_PARTS:
            raise Refused(400, f"the form has more than {_MAX_PARTS} fields; send only {FIELD!r}")
        name, value = b"", bytearray()

    def end_header() -> None:
        nonlocal name
        if bytes(header[0]).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(header[1]))
            name = options.get(b"name", b"")
        header[0], header[1] = bytearray(), bytearray()

    def end_part() -> None:
        fields.setdefault(name.decode("utf-8", "replace"), []).append(bytes(value))

    def end() -> None:
        nonlocal is_ended
        is_ended = True

    def add_value(data: bytes, start: int, stop: int) -> None:
        value.extend(data[start:stop])

    callbacks: Any = {
        "on_part_begin": begin_part,
        "on_part_data": add_value,
        "on_part_end": end_part,
        "on_header_field": lambda data, start, stop: header[0].extend(data[start:stop]),
        "on_header_value": lambda data, start, stop: header[1].extend(data[start:stop]),
        "on_header_end": end_header,
        "on_end": end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise Refused(400, f"the body is no form: {error}; send it as by {_EXAMPLE}") from error
    if not is_ended:
        raise Refused(400, f"the form is cut short; send it as by {_EXAMPLE}")
    return fields


def packed_picture(
    body: bytes, boundary: bytes, limits: Limits, processes: PictureProcesses
) -> Packed:
    """The drawing in the picture of a form, simplified. Raises `Refused`. Takes up to a second."""
    data = picture_in(body, boundary)
    try:
        picture = processes.read(data, limits.picture_bytes, limits.picture_pixels)
        drawing = picture.drawing
    except InputError as error:
        raise Refused(422, str(error)) from error
    except ReaderError as error:
        raise unavailable(str(error), _REPAIR_SECONDS) from error
    lengths = drawing.stroke_lengths.astype("<u2").tobytes()
    return drawing.x.tobytes(), drawing.y.tobytes(), lengths
