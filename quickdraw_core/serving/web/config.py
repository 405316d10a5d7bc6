"""The configuration of `quickdraw serve`: address, limits of requests, batches."""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, Field

from quickdraw_core.config import Config
from quickdraw_core.formats.scanning.simplification import MAX_POINTS
from quickdraw_core.storage.location import Location
from quickdraw_core.system.threads import usable_cores


def _require_origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+", value):
        raise ValueError("is no origin; give scheme and host without a path: https://example.org")
    return value


Origin = Annotated[str, AfterValidator(_require_origin)]
"""Scheme, host and perhaps port of a page's address."""

MAX_GUESSES = 10
"""Words of an answer at most."""


class Limits(Config):
    """What one request may take. What is over a limit is refused with 4xx and a sentence."""

    body_bytes: int = Field(1 << 20, ge=1 << 10, description="a drawing's JSON, bytes")
    strokes: int = Field(2_000, ge=1, description="strokes of a drawing")
    points: int = Field(20_000, ge=1, le=MAX_POINTS, description="points of a drawing")
    picture_bytes: int = Field(10 << 20, ge=1 << 10, description="a picture's file, bytes")
    picture_pixels: int = Field(40_000_000, ge=1, description="a picture's pixels")
    read_seconds: float = Field(10.0, gt=0, description="time to send a request, seconds")
    answer_seconds: float = Field(10.0, gt=0, description="time to answer a request, seconds")


class Batching(Config):
    """How concurrent requests become batches, and how many may wait."""

    drawings: int = Field(16, ge=1, le=1024, description="drawings of a batch at most")
    gather_ms: float = Field(
        2.0, ge=0, le=100, description="how long a batch waits for requests that are being read"
    )
    at_once: int | None = Field(
        None, ge=1, description="batches computed at once, default: one on each thread"
    )
    waiting: int = Field(
        256, ge=1, description="drawings that wait for a batch; one more is answered with 503"
    )
    wait_ms: float = Field(
        500.0,
        gt=0,
        description="how long a drawing may be expected to wait; if longer, the answer is 503",
    )


class ServeConfig(Config):
    """Configuration of the server."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on, 0: any free one")
    threads: int | None = Field(
        None, ge=1, description="threads that compute guesses, default: the cores"
    )
    store: Location | None = Field(
        None, description="store whose drawings the game shows as examples; it may come later"
    )
    allow_origin: tuple[Origin, ...] = Field(
        (), description="origins, such as https://example.org, whose pages may call the API"
    )
    allow_host: tuple[str, ...] = Field(
        (), description="names, such as play.example.org, that requests may call this server"
    )
    limits: Limits = Limits()
    batching: Batching = Batching()

    @property
    def host_names(self) -> frozenset[str] | None:
        """What the header Host of a request may name, without a port; None: anything.

        Else a page of another site could have its own name lead to this machine, and read the
        answers.
        """
        if not self.allow_host and _is_any_address(self.host):
            return None
        names = ("localhost", "127.0.0.1", "::1", self.host, *self.allow_host)
        return frozenset(host_name(name) for name in names)

    @property
    def compute_threads(self) -> int:
        """Threads that compute guesses, all together."""
        return self.threads or usable_cores()

    @property
    def batches_at_once(self) -> int:
        """How many batches are computed at the same time."""
        return min(self.batching.at_once or self.compute_threads, self.compute_threads)

    @property
    def batch_threads(self) -> int:
        """Threads of one batch."""
        return self.compute_threads // self.batches_at_once


@lru_cache(256)
def host_name(value: str) -> str:
    """The name or address in a header Host, or in an option: without port and brackets."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value if value.count(":") > 1 else value.partition(":")[0].rstrip(".")


def _is_any_address(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
