"""Pages: text that never becomes a tag, drawings that stay in their frames, and a frame that needs nothing else."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.page import charts, histograms
from dataplane.page.document import card, code, data_uri, details, document, section, table, tiles
from dataplane.page.markup import Markup, element
from tests.pages import Page

HOSTILE = "<script>alert('x')</script> & \"z\""


def test_text_is_escaped_and_markup_is_not():
    inner = element("b", HOSTILE, title=HOSTILE)
    assert "<script>" not in inner
    assert "'x'" not in inner.split(">")[0]
    assert element("p", inner) == f"<p>{inner}</p>"
    assert element("img", src="a", class_=None) == '<img src="a">'
    assert element("rect", stroke_width=1.25, x=2.0) == '<rect stroke-width="1.2" x="2"></rect>'
    assert isinstance(inner, Markup)


@given(st.floats(1e-6, 1e9), st.integers(2, 10))
@settings(deadline=None)
def test_ticks_cover_the_data_in_a_few_round_steps(end, count):
    found = charts.ticks(end, count)
    assert found[0] == 0
    assert found[-1] >= end * (1 - 1e-6)
    assert len(found) <= count + 2
    step = found[1]
    assert found[-1] - end <= step * (1 + 1e-6)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in {1, 2, 5, 10}


numbers = st.floats(0, 1e5)


@given(st.lists(st.tuples(st.integers(0, 400), numbers), max_size=30), st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None, max_examples=50)
def test_a_line_chart_stays_in_its_frame(points, start, stop_at):
    band = charts.Band(min(start, stop_at), max(start, stop_at), "a", "b")
    lines = [charts.Line("l", "s1", tuple(points), dots=True)]
    drawn = charts.line_chart(lines, title="T", x_label="step", x_end=400, y_format="{:.3g}".format, y_least=1.0, band=band)
    if not points:
        assert drawn == '<p class="empty">Nothing was recorded.</p>'
        return
    root = ET.fromstring(drawn)
    assert len([each for each in root.iter("circle") if each.get("class") == "hover"]) == len(points)
    for each in root.iter("circle"):
        assert charts.LEFT - 0.1 <= float(each.get("cx")) <= charts.WIDTH - charts.RIGHT + 0.1
        assert charts.TOP - 0.1 <= float(each.get("cy")) <= charts.HEIGHT - charts.BOTTOM + 0.1


@given(st.lists(numbers, min_size=1, max_size=4))
@settings(deadline=None)
def test_a_stacked_bar_shares_its_width(values):
    spans = [charts.Span(str(place), "s1", value) for place, value in enumerate(values)]
    widths = [float(each.get("width")) for each in ET.fromstring(charts.stacked_bar(spans, title="T", value_format=str)).iter("rect")]
    room = charts.WIDTH - 2 * (len(values) - 1)
    for value, width in zip(values, widths, strict=True):
        assert width == pytest.approx(max(room * value / (sum(values) or 1), 0.5), abs=0.06)


counts = st.lists(st.integers(0, 10**12), max_size=40)


def inside(root, height):
    """Every rectangle is within the drawing."""
    for each in root.iter("rect"):
        assert float(each.get("x")) >= histograms.LEFT - 0.1
        assert float(each.get("x")) + float(each.get("width")) <= histograms.WIDTH - histograms.RIGHT + 0.5
        assert float(each.get("y")) >= histograms.TOP - 0.1
        assert float(each.get("y")) + float(each.get("height")) <= height - histograms.BOTTOM + 0.5


@given(counts)
@settings(deadline=None, max_examples=50)
def test_columns_stay_in_their_frame_and_are_as_high_as_their_counts(values):
    bars = [histograms.Column(str(place), str(place + 1), count) for place, count in enumerate(values)]
    drawn = histograms.column_chart(bars, title=HOSTILE, x_label="x")
    if not values:
        assert drawn == '<p class="empty">There is nothing to count.</p>'
        return
    root = ET.fromstring(drawn)
    assert root.find("title").text == HOSTILE
    assert root.get("role") == "img"
    inside(root, histograms.HEIGHT)
    heights = [float(each.get("height")) for each in root.iter("rect") if "fill" in each.get("class")]
    for one, high in zip(values, heights, strict=True):
        assert high == pytest.approx(max(heights) * one / (max(values) or 1), abs=0.1)
    tips = [each.find("title").text for each in root.iter("rect") if each.get("class") == "hover"]
    assert tips == [f"{place} to {place + 1}: {count:,}" for place, count in enumerate(values)]


@given(st.dictionaries(st.tuples(st.integers(0, 30), st.integers(0, 20)), st.integers(1, 10**9), max_size=40))
@settings(deadline=None, max_examples=50)
def test_cells_stay_in_their_frame(cells):
    edges = [str(edge) for edge in range(32)]
    drawn = histograms.grid_chart(cells, edges, edges[:22], title="T", x_label="w", y_label="h")
    if not cells:
        assert "nothing" in drawn
        return
    root = ET.fromstring(drawn)
    inside(root, 320)
    strengths = [float(each.get("fill-opacity")) for each in root.iter("rect") if each.get("fill-opacity")]
    assert len(strengths) == len(cells)
    assert max(strengths) == 1
    assert min(strengths) > 0


def test_an_outline_reaches_from_its_lowest_to_its_highest():
    path = ET.fromstring(histograms.outline_chart([-1, -0.5], [0, 1], title="T")).find("path").get("d")
    heights = [float(point.split()[1]) for point in path[1:-1].split("L")]
    assert heights == [42, 2, 62, 82]
    assert ET.fromstring(histograms.outline_chart([], [], title="T")).find("title").text == "T"


def test_a_share_is_as_long_as_its_count():
    root = ET.fromstring(histograms.share_bar([("a", "s1", 1), ("b", "s2", 2)], most=4, title="T"))
    assert [(float(each.get("x")), float(each.get("width"))) for each in root.iter("rect")] == [(0, 50), (50, 100)]
    assert "NaN" not in histograms.share_bar([("a", "s1", 0)], most=0, title="T")


def test_a_page_needs_nothing_else_and_holds_no_tag_of_others():
    parts = [
        section(HOSTILE, HOSTILE, card(HOSTILE, code(HOSTILE))),
        tiles([(HOSTILE, HOSTILE, HOSTILE)]),
        table([HOSTILE, "n"], [[HOSTILE, "1"]], numbers=1, name=HOSTILE),
        details(HOSTILE, element("p", HOSTILE)),
        element("img", src=data_uri(b"\x89PNG", "image/png"), alt=HOSTILE),
    ]
    text = document(HOSTILE, *parts, style=".more { color: red }")
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert page.text.count(HOSTILE) >= 10
    assert page.addresses == ["data:image/png;base64,iVBORw=="]
    assert not re.search(r"@import|url\(|https?://", text)
    for part in ("prefers-color-scheme: dark", 'name="viewport"', ".more { color: red }", 'lang="en"', 'tabindex="0"'):
        assert part in text
