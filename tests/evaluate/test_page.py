"""Pages of measurements: what is shown is where it belongs, and nothing in it is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from textpro_stream.evaluate.page import (
    Curve,
    Interval,
    curves,
    heading,
    intervals,
    markdown,
    page,
    table,
)

NAN = float("nan")


def dots(drawing: str) -> list[tuple[float, float]]:
    found = re.findall(r'<circle[^>]*?cx="([\d.-]+)"[^>]*?cy="([\d.-]+)"', drawing)
    return [(float(x), float(y)) for x, y in found]


def test_a_table_is_the_same_in_a_terminal_and_on_a_page() -> None:
    head, rows = ["a", "b"], [["1", "<2>"]]
    assert markdown(head, rows) == "| a | b |\n| --- | --- |\n| 1 | <2> |"
    assert "<td>1</td><td>&lt;2&gt;</td>" in table(head, rows)
    assert "<th>a</th><th>b</th>" in table(head, rows)


def test_intervals_stand_along_one_scale_that_holds_zero() -> None:
    shown = [Interval("text", 80, 70, 90), Interval("speech", 40, 30, 50), Interval("n", 8, NAN, 8)]
    (first, top), (second, below), (third, _) = dots(intervals("right", shown, " %"))
    assert first > second > third  # further right is more
    assert top < below  # in their order
    told = intervals("right", shown, " %")
    assert "text: 80.0 % [70.0, 90.0]" in told
    assert ">0 %<" in told
    assert told.count("<polyline") == 2  # none where nobody knows the range
    assert "nan" not in told.replace("[nan", "")


def test_curves_rise_from_zero_and_are_named_where_there_are_several() -> None:
    one = curves("cost", [Curve("CPU", [(0, 0.1), (10, 0.2)])], "minutes", "seconds")
    (left, low), (right, high) = dots(one)
    assert left < right
    assert low > high  # pixels count downwards
    assert "<ul>" not in one
    two = curves("cost", [Curve("CPU", [(0, 1)]), Curve("wall", [(0, 2)])], "minutes", "s")
    assert '<li class="s1">wall</li>' in two
    assert "<svg" in curves("nothing", [Curve("none", [])], "minutes", "s")


def test_a_page_stands_alone_and_text_is_text() -> None:
    whole = page("A & B", "<lead>", [heading("<h>"), table(["x"], [["</table>"]])])
    HTMLParser().feed(whole)
    assert "<h1>A &amp; B</h1><p>&lt;lead&gt;</p><h2>&lt;h&gt;</h2>" in whole
    assert "&lt;/table&gt;" in whole
    assert "http" not in whole.replace("http-equiv", "")
