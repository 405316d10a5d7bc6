"""`/docs`: the OpenAPI document as a page.

Made here, as HTML without a script: Swagger's page loads its own from another host, and needs
styles that the content security policy forbids.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse, Response

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; }
body { padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9rem; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8886; border-radius: 0.4rem; }
section { border-top: 1px solid #8886; margin-top: 1.5rem; }
h2 { font-size: 1.1rem; }
table { border-collapse: collapse; }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; }
"""


def docs_router(app: FastAPI) -> APIRouter:
    """The page and its style sheet."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse("".join(_page(app.openapi())))

    @router.get("/docs.css")
    async def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    return router


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(info['title'])}</title>"
    yield '<link rel="stylesheet" href="/docs.css"></head><body><main>'
    yield f"<h1>{escape(info['title'])}</h1><p>Version {escape(info['version'])}. "
    yield 'For programs: <a href="/openapi.json">openapi.json</a>. Every error is '
    yield "<code>{&quot;error&quot;: sentence}</code>.</p>"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(path, method.upper(), operation, document)
    yield "</main></body></html>"


def _operation(
    path: str, method: str, operation: dict[str, Any], document: dict[str, Any]
) -> Iterator[str]:
    yield f"<section><h2><code>{method} {escape(path)}</code> {escape(operation['summary'])}</h2>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    rows = [
        (p["name"], p["in"], p.get("description", "")) for p in operation.get("parameters", ())
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(content["schema"], document)
        for name, value in schema.get("properties", {}).items():
            rows.append((name, kind, value.get("description", "")))
    if rows:
        yield "<table><tr><th>name</th><th>in</th><th></th></tr>"
        for row in rows:
            yield "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
        yield "</table>"
    yield "<p>Answers: " + ", ".join(f"<code>{status}</code>" for status in operation["responses"])
    yield "</p>"
    content = operation["responses"].get("200", {}).get("content", {}).get("application/json")
    if content:
        form = json.dumps(_form(content["schema"], document), indent=1, ensure_ascii=False)
        yield f"<pre>{escape(form)}</pre>"
    yield "</section>"


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _form(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """A schema as a value that has its shape, with the names of types for values."""
    schema = _resolved(schema, document)
    if "properties" in schema:
        return {name: _form(value, document) for name, value in schema["properties"].items()}
    if "anyOf" in schema:
        return _form(schema["anyOf"][0], document)
    if schema.get("type") == "array":
        return [_form(schema.get("items", {}), document)]
    return schema.get("type", "any")
