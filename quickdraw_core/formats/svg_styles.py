"""What the styles of an SVG say: `StyleSheets`, `is_painted`.

Of the properties that decide whether a shape is painted, as a browser takes them: attributes, then
the rules of style sheets by their specificity and order, then the element's own style; what is
marked as important above all. A value that is none for its property counts as if it was not there.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element

from quickdraw_core.errors import PictureError

Style = dict[str, str]
"""Property → value, in small letters but for `transform`."""

INHERITED = {
    "visibility": "visible",
    "color": "black",
    "fill": "black",
    "stroke": "none",
    "fill-opacity": "1",
    "stroke-opacity": "1",
    "stroke-width": "1",
}
"""Properties that an element takes from its parent, if it has none of its own; the defaults."""

_PROPERTIES = (*INHERITED, "display", "opacity", "transform")
_FROM_PARENT = ("inherit", "unset", "revert", "revert-layer")

_MAX_TESTS = 300_000
"""How often selectors are compared with elements; drawings need some for each element."""

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_BRACE = re.compile(r"([{};])")
_NAME = r"[\w-]+"
_SELECTOR = re.compile(rf"(\*|{_NAME})?((?:[.#]{_NAME})*)")
_PART = re.compile(rf"([.#])({_NAME})")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_HEX = re.compile(r"#(?:[\da-f]{3}([\da-f])?|[\da-f]{6}([\da-f]{2})?)")
_FUNCTIONS = ("rgb", "rgba", "hsl", "hsla", "hwb", "lab", "lch", "oklab", "oklch", "color")
_FALLBACK = re.compile(r"var\([^,()]*,(.*)\)")


class _Rank(NamedTuple):
    """Which of several values of a property counts: the largest.

    origin: 0 for an attribute, 1 for a style sheet, 2 for the element's own style.
    """

    is_important: bool
    origin: int
    specificity: tuple[int, int] = (0, 0)
    order: int = 0


_Ranked = dict[str, tuple[_Rank, str]]


class _Selector(NamedTuple):
    """`name#id.class.class`, each of which may be missing: then it is None, or there is none."""

    name: str | None
    id: str | None
    classes: frozenset[str]


class StyleSheets:
    """The rules of all style sheets of a file that hold on a screen.

    Selectors are names, classes and ids, and these together; others match nothing.
    """

    def __init__(self, styles: Iterable[Element]) -> None:
        self._tests = 0
        self._by_key: dict[str, dict[_Selector, _Ranked]] = {}
        texts = [style.text or "" for style in styles if _is_applied(style)]
        for order, (prelude, text) in enumerate(_rules("\n".join(texts))):
            declarations = list(_declarations(text))
            for selector in filter(None, map(_selector, prelude.split(","))):
                self._add(selector, declarations, order)

    def own_style(self, name: str, element: Element) -> Style:
        """The properties of an element that it does not take from its parent.

        Raises `PictureError`: too many rules for too many elements.
        """
        classes = frozenset(element.get("class", "").split())
        own: _Ranked = {}
        attributes = ((key, element.attrib[key]) for key in _PROPERTIES if key in element.attrib)
        _set(own, ((key, value, _Rank(False, 0)) for key, value in attributes))
        element_id = element.get("id")
        for key in ("*", name, f"#{element_id}", *(f".{c}" for c in classes)):
            selectors = self._by_key.get(key, {})
            self._tests += len(selectors)
            if self._tests > _MAX_TESTS:
                raise PictureError(
                    "the SVG has a large style sheet, which is not read; save it as plain paths"
                )
            for selector, ranked in selectors.items():
                if (
                    selector.name in (None, name)
                    and selector.id in (None, element_id)
                    and selector.classes <= classes
                ):
                    own |= {
                        key: found
                        for key, found in ranked.items()
                        if key not in own or found[0] >= own[key][0]
                    }
        text = element.get("style", "")
        if text:
            _set(own, ((key, value, _Rank(bang, 2)) for key, value, bang in _declarations(text)))
        return dict(_resolved({key: value for key, (_, value) in own.items()}))

    def _add(
        self, selector: _Selector, declarations: list[tuple[str, str, bool]], order: int
    ) -> None:
        if selector.id is not None:
            key = f"#{selector.id}"
        elif selector.classes:
            key = f".{min(selector.classes)}"
        else:
            key = selector.name or "*"
        ranked = self._by_key.setdefault(key, {}).setdefault(selector, {})
        named = (selector.id is not None, len(selector.classes), selector.name is not None)
        specificity = (10_000 * named[0] + named[1], int(named[2]))
        _set(ranked, ((k, v, _Rank(bang, 1, specificity, order)) for k, v, bang in declarations))


def is_painted(style: Style, what: str) -> bool:
    """Whether the `fill` or `stroke` of a whole style is a colour that is not transparent, or a
    gradient.
    """
    if number(style[f"{what}-opacity"]) <= 0:
        return False
    paint = style[what]
    return bool(_is_visible(style["color"] if paint == "currentcolor" else paint))


def number(text: str) -> float:
    """The number that a text begins with; 1 if it begins with none."""
    match = _NUMBER.match(text.strip())
    return float(match[0]) if match else 1.0


def numbers(text: str) -> int:
    """How many numbers a text has."""
    return sum(1 for _ in _NUMBER.finditer(text))


def _is_applied(style: Element) -> bool:
    kind = style.get("type", "").strip().lower()
    return kind in ("", "text/css") and _is_of_screen(style.get("media", ""))


def _is_of_screen(media: str) -> bool:
    """Whether a list of media holds on a screen, whatever its size and colours."""
    queries = (query.strip().lower().removeprefix("only ") for query in media.split(","))
    return any(query in ("", "all", "screen") for query in queries)


def _rules(sheet: str) -> Iterator[tuple[str, str]]:
    """The selectors and declarations of each rule of a style sheet, in its order."""
    text = _COMMENT.sub("", sheet).replace("<!--", "").replace("-->", "")
    prelude = declarations = ""
    inside, skipped = False, 0
    for token in _BRACE.split(text):
        if skipped:  # in a block that does not count: to its end
            skipped += (token == "{") - (token == "}")
        elif token == "{":
            prelude = prelude.strip()
            is_media = prelude.lower().startswith("@media")
            if inside:  # a rule in a rule, whose selector was taken for a declaration
                declarations, skipped = declarations.rpartition(";")[0] + ";", 1
            elif is_media:
                skipped = 0 if _is_of_screen(prelude[len("@media") :]) else 1
            elif prelude.startswith("@"):
                skipped = 1
            else:
                inside, declarations = True, ""
        elif token == "}":
            if inside:
                yield prelude, declarations
            inside, prelude = False, ""
        elif inside:
            declarations += token
        else:
            prelude = "" if token == ";" else token
    if inside:
        yield prelude, declarations


def _selector(text: str) -> _Selector | None:
    match = _SELECTOR.fullmatch(text.strip())
    if match is None or not match[0]:
        return None
    parts = _PART.findall(match[2])
    ids = {name for kind, name in parts if kind == "#"}
    if len(ids) > 1:
        return None
    name = None if match[1] in (None, "*") else match[1]
    classes = frozenset(name for kind, name in parts if kind == ".")
    return _Selector(name, next(iter(ids), None), classes)


def _declarations(text: str) -> Iterator[tuple[str, str, bool]]:
    """Property, value and whether it is important, of each declaration of a known property."""
    for declaration in _COMMENT.sub("", text).split(";"):
        key, _, value = declaration.partition(":")
        value, bang, important = value.partition("!")
        key = key.strip().lower()
        if key in _PROPERTIES and (not bang or important.strip().lower() == "important"):
            yield key, value, bool(bang)


def _set(style: _Ranked, values: Iterable[tuple[str, str, _Rank]]) -> None:
    """Sets valid values of properties, unless those that are there rank higher."""
    for key, value, rank in values:
        value = value.strip() if key == "transform" else value.strip().lower()
        fallback = _FALLBACK.fullmatch(value)
        value = fallback[1].strip() if fallback else value
        if (key not in style or rank >= style[key][0]) and _is_valid(key, value):
            style[key] = rank, value


def _is_valid(key: str, value: str) -> bool:
    if value in _FROM_PARENT or value == "initial":
        return True
    if key in ("fill", "stroke", "color"):
        return _is_visible(value) is not None
    if key == "visibility":
        return value in ("visible", "hidden", "collapse")
    if key == "stroke-width":
        return _NUMBER.match(value) is not None and not value.startswith("-")
    return "opacity" not in key or _NUMBER.match(value) is not None


def _resolved(style: Style) -> Iterator[tuple[str, str]]:
    """A style without what is to be as the parent's, and with defaults where it asks for them."""
    for key, value in style.items():
        if value == "initial":
            if key in INHERITED:
                yield key, INHERITED[key]
        elif value not in _FROM_PARENT and (key, value) != ("color", "currentcolor"):
            yield key, value


def _is_visible(paint: str) -> bool | None:
    """Whether a paint in small letters is visible; None if it is no paint."""
    from PIL.ImageColor import colormap

    if paint in ("none", "transparent"):
        return False
    if paint in colormap or paint in ("currentcolor", "canvastext"):
        return True
    if paint.startswith(("url(", "color-mix(", "context-")):
        return True
    if match := _HEX.fullmatch(paint):
        return (match[1] or match[2] or "f").strip("0") != ""
    name, _, arguments = paint.partition("(")
    if name not in _FUNCTIONS or not arguments.endswith(")"):
        return None
    channels, slash, alpha = arguments[:-1].partition("/")
    values = channels.replace(",", " ").split()[name == "color" :]
    if len(values) == 4 and not slash:
        alpha = values.pop()
    if len(values) != 3:
        return None
    return alpha.strip() != "none" and number(alpha) > 0
