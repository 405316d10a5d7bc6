"""HTML pages from the templates of this package: whole in themselves, nothing is loaded."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """A template of this package with values. What is not marked as SVG is escaped."""
    environment = Environment(
        loader=PackageLoader("quickdraw_core.reporting", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["percent"] = percent
    environment.filters["svg"] = Markup
    return environment.get_template(template).render(values)


def percent(share: float) -> str:
    """A share in per cent, rounded, but not to 0 or 100 unless it is."""
    rounded = f"{100 * share:.0f}"
    if rounded == "100" and share < 1:
        rounded = "> 99"
    elif rounded == "0" and share > 0:
        rounded = "< 1"
    return f"{rounded} %".replace(" ", "\N{NO-BREAK SPACE}")
