"""Whether the server lives, whether it can guess, and its numbers."""

from fastapi import APIRouter, Response

from quickdraw_core.serving.slot import ModelSlot
from quickdraw_core.serving.web.answers import json_response, unavailable
from quickdraw_core.serving.web.forms import ErrorAnswer, Status
from quickdraw_core.serving.web.guessing import NOT_READY_SECONDS
from quickdraw_core.serving.web.metrics import CONTENT_TYPE_LATEST, Metrics


def health_router(slot: ModelSlot, metrics: Metrics) -> APIRouter:
    """The routes for those who operate the server."""
    router = APIRouter(tags=["operation"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", summary="Whether the server answers", response_model=Status)
    async def healthz() -> Response:
        return json_response({"status": "ok"})

    @router.get(
        "/readyz",
        summary="Whether the server has a model",
        response_model=Status,
        responses={503: {"model": ErrorAnswer}},
    )
    async def readyz() -> Response:
        if slot.current is None:
            raise unavailable(slot.missing, NOT_READY_SECONDS)
        return json_response({"status": "ok"})

    @router.get(
        "/metrics",
        summary="Numbers in Prometheus' form",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
