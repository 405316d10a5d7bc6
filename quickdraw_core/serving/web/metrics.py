"""What `/metrics` shows, in Prometheus' form. Each server has a registry of its own."""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from quickdraw_core.serving.slot import ModelSlot

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_DRAWINGS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of one server."""

    def __init__(self, slot: ModelSlot, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "quickdraw_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "quickdraw_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "quickdraw_batch_drawings",
            "Drawings that were guessed together.",
            buckets=_DRAWINGS,
            registry=self.registry,
        )
        queue = Gauge(
            "quickdraw_queue_drawings", "Drawings that wait for a batch.", registry=self.registry
        )
        queue.set_function(waiting)
        self.registry.register(_ModelCollector(slot))
        # Looking them up by their labels takes longer than counting.
        self._requests: dict[tuple[str, str, int], Counter] = {}
        self._seconds: dict[str, Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request. route: the path's template, so that there are few of them."""
        key = method, route, status
        if key not in self._requests:
            self._requests[key] = self.requests.labels(method, route, str(status))
            self._seconds[route] = self.seconds.labels(route)
        self._requests[key].inc()
        self._seconds[route].observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _ModelCollector(Collector):
    """Which model is served, looked up when it is asked for: models change."""

    def __init__(self, slot: ModelSlot) -> None:
        self._slot = slot

    def collect(self) -> list[GaugeMetricFamily]:
        """As prometheus-client asks for it."""
        family = GaugeMetricFamily(
            "quickdraw_model_info", "The model that is served.", labels=("name", "version")
        )
        if (recognizer := self._slot.current) is not None:
            family.add_metric((recognizer.name, recognizer.version), 1)
        problem = GaugeMetricFamily(
            "quickdraw_model_problem",
            "1 if a newer version of the model cannot be looked up or loaded; see /api/model.",
            value=float(self._slot.problem is not None),
        )
        return [family, problem]
