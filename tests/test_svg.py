"""SVG files become the strokes that a browser would show, in bounded time."""

import numpy as np
import pytest

from quickdraw_core.errors import PictureError
from quickdraw_core.formats.raw_drawing import RawStrokes
from quickdraw_core.formats.svg import strokes_of_svg

LINE = '<line x2="5" y2="5" stroke="red"/>'


def strokes_in(content: str, attributes: str = "") -> RawStrokes:
    text = f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{content}</svg>'
    return strokes_of_svg(text.encode())


def test_shapes_stand_where_their_transforms_put_them() -> None:
    line, circle, path = strokes_in(
        '<g transform="translate(10,20) scale(2)"><g transform="rotate(90) rotate(-90)">'
        '<line x1="0" y1="0" x2="5" y2="5" stroke="#000"/>'
        '<circle cx="0" cy="0" r="10" stroke="#000"/></g>'
        '<path d="M0 0C0 5 5 5 5 0S10-5 10 0Q12 2 14 0T18 0A2 2 0 0 1 22 0" stroke="#000"/>'
        '<rect width="3" height="3"/></g>'
    )
    assert np.allclose(line, [[10, 20], [20, 30]])
    x, y = np.array(circle)
    assert np.allclose(np.hypot(x - 10, y - 20), 20, atol=1e-6)
    assert (path[0][-1], path[1][-1]) == pytest.approx((54, 20))


def test_the_view_box_and_units_are_those_of_the_viewport() -> None:
    (line,) = strokes_in(
        '<svg x="10" width="50" height="50" viewBox="0 0 5 5"><line x2="100%" y2="1" '
        'stroke="red" transform="translate(0,1)"/></svg>',
        'width="400" height="200" viewBox="0 0 200 100"',
    )
    assert np.allclose(line, [[20, 120], [20, 40]])


@pytest.mark.parametrize(
    "hidden",
    [
        *(f"<{name}>{LINE}</{name}>" for name in ("symbol", "mask", "clipPath", "pattern")),
        *(f"<{name}>{LINE}</{name}>" for name in ("marker", "defs", "filter", "metadata")),
        f'<o:g xmlns:o="http://elsewhere.org">{LINE}</o:g>',
        f'<g display="none"><g display="inline">{LINE}</g></g>',
        f'<g visibility="hidden">{LINE}</g>',
        f'<a style="opacity: 0"><g opacity="1">{LINE}</g></a>',
        "<style>.a.b {x:y} .off, #n {display: none !important}</style>"
        f'<g class="x off">{LINE}</g><g id="n">{LINE}</g>',
        f"<defs><style>line.off {{stroke-opacity: 0%}}</style></defs>{LINE[:-2]} class='off'/>",
        '<line x2="5" y2="5"/>',
        '<line x2="5" y2="5" fill="none"/><path d="M0 0"/>',
        '<path d="M0 0h9v9" stroke="none" fill="none"/>',
        f'<g transform="scale(0)">{LINE}</g><g transform="scale(3,0)">{LINE}</g>',
        *(
            f'<line x2="5" y2="5" stroke="{paint}"/>'
            for paint in (
                *(
                    "rgb(0 0 0 / 0%)",
                    "rgba(0,0,0,0)",
                    "hsl(0 0% 0% / none)",
                    "color(srgb 0 0 0/0)",
                ),
                *(
                    "#1230",
                    "NONE",
                    "initial",
                    "unset",
                    "",
                    "no colour",
                    "rgb(0)",
                    "var(--a, none)",
                ),
            )
        ),
        '<path d="M0 0h9v9" fill="none" style="fill: /* none */ NONE; stroke: initial"/>',
        f"<style>g#n.a {{display: none}}</style><g id='n' class='b a'>{LINE}</g>",
        f"<style>.c.d {{opacity: 0}}</style><g class='d c'>{LINE}</g>",
        f"<style>.b {{display: inline}} .a {{display: none}}</style><g class='a b'>{LINE}</g>",
        "<style>#n {display: none !important}</style>"
        f"<g id='n' style='display: inline'>{LINE}</g>",
        f"<style>@media screen {{ .n {{display: none}} }}</style><g class='n'>{LINE}</g>",
        '<path d="M0 0h9v9" stroke="transparent" fill="#0000"/>',
        '<g stroke-width="0"><path d="M0 0h9v9" stroke="red" fill="none"/></g>',
        '<svg width="0">' + LINE + "</svg>",
        '<rect stroke="red" width="0" height="9"/><circle stroke="red"/>',
    ],
)
def test_what_a_browser_does_not_show_is_left_out(hidden: str) -> None:
    (stroke,) = strokes_in(hidden + '<path d="M1 2L3 4" stroke="red"/>')
    assert np.allclose(stroke, [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    "shown",
    [
        f'<g visibility="hidden">{LINE[:-2]} visibility="visible"/></g>',
        '<g color="red"><line x2="5" y2="5" stroke="currentColor"/></g>',
        '<linearGradient id="a"><stop stop-color="red"/></linearGradient>'
        '<line x2="5" y2="5" stroke="url(#a)"/>',
        "<style>g { stroke: blue } @media print { g { display: none } }</style>"
        '<g><line x2="5" y2="5"/></g>',
        f'<g opacity=".5" style="display:inline">{LINE}</g>',
        f'<style media="print">g {{display: none}}</style><g>{LINE}</g>',
        f"<style>.a {{display: none}} .b {{display: inline}}</style><g class='b a'>{LINE}</g>",
        f"<style>g g, a.b#c {{display: none}}</style><g id='c' class='b'>{LINE}</g>",
        "<style>g {stroke: red; &amp; g {stroke: none} stroke-width: 2}</style>"
        '<g><line x2="5" y2="5"/></g>',
        '<g stroke="red"><line x2="5" y2="5" stroke="no colour"/></g>',
        '<line x2="5" y2="5" stroke="rgb(0 0 0 / 1%)"/>',
        '<line x2="5" y2="5" stroke="var(--line, RED)"/>',
        f'<g stroke-width="0">{LINE[:-2]} style="stroke-width: 2px"/></g>',
    ],
)
def test_what_a_browser_shows_is_read(shown: str) -> None:
    assert len(strokes_in(shown + '<path d="M0 0h9v9z"/>')) == 1


def test_what_is_outside_of_the_viewport_is_left_out() -> None:
    outside = '<line x1="-9" x2="-1" y2="5" stroke="red"/><path d="M50 95h9" stroke="red"/>'
    edge = '<path d="M-1 0v9" stroke="red" stroke-width="4"/><path d="M8 8h9" stroke="red"/>'
    assert len(strokes_in(outside + edge, 'viewBox="0 0 9 9"')) == 2
    assert len(strokes_in(outside + edge)) == 4  # its size is not known


def test_a_file_without_strokes_is_its_outlines_but_for_the_background() -> None:
    content = (
        '<rect width="9" height="9" fill="#eee"/><path d="M1 1h2v2z"/><rect width="3" height="3"/>'
    )
    assert len(strokes_in(content, 'viewBox="0 0 9 9"')) == 2


def test_20_000_lines_are_read_and_one_more_is_refused() -> None:
    lines = '<path stroke="red" d="' + "M0 0L1 1" * 10_000 + '"/>'
    assert len(strokes_in(lines * 2)) == 20_000
    with pytest.raises(PictureError, match="more than 20,000 lines and curves"):
        strokes_in(lines * 2 + LINE)
    with pytest.raises(PictureError, match="more than 20,000 lines and curves"):
        strokes_in(f'<polygon points="{"1,2 " * 30_000}"/>')


@pytest.mark.parametrize(
    "content",
    [
        '<s:use xmlns:s="http://www.w3.org/2000/svg"/>',
        f"<style>{'a{' * 50_000}</style>",
        f'<g transform="{"translate(1)" * 50_000}"/>',
        f'<g style="transform:{"translate(1)" * 50_000}"/>',
        '<g transform="scale(1)">' * 2_000 + "</g>" * 2_000,
        f'<path d="M0 0{"z" * 50_000}"/>',
        f'<path d="M0 0{"c1 1 2 2 3 3" * 8_000}"/>',
        '<rect width="1" height="1" rx="1"/>' * 9_000,
        '<circle r="1"/>' * 9_000,
        f"<style>{','.join(f'.a.b{n}' for n in range(2_000))}{{fill:red}}</style>"
        + '<g class="a"/>' * 1_000,
    ],
)
def test_an_svg_that_would_take_long_is_refused(content: str) -> None:
    with pytest.raises(PictureError, match=r"save it as plain paths|; simplify it"):
        strokes_in(content)


def test_what_is_read_takes_time_in_proportion_to_its_length() -> None:
    """Each in well under the seconds that a test may take; they took minutes."""
    deep = f'<g transform="{"rotate(9)" * 220}">'
    assert strokes_in(deep * 60 + LINE * 5_000 + "</g>" * 60)
    sheet = "".join(f".c{n}{{{'stroke:red;' * 25}}}" for n in range(60))
    names = " ".join(f"c{n % 60}" for n in range(500))
    assert strokes_in(f"<style>{sheet}</style>" + f'<g class="{names}"/>' * 500 + LINE)
    for part in ("@", "@a{", "/*", "a{", "}", ".a", "var(", "rgb("):
        assert strokes_in(LINE + f"<style>{part * (20_000 // len(part))}</style>")
        assert strokes_in(LINE + f'<g fill="{part * 100_000}" style="{part * 500}"/>')
    with pytest.raises(PictureError, match="points; simplify it"):
        strokes_in('<circle r="1" stroke="red"/>' * 4_990)
