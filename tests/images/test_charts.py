"""Line charts and contact sheets: what is drawn where, and what is refused."""

import pytest
from PIL import Image

from sfumato.images.charts import Axis, line_chart
from sfumato.images.sheets import TEXT, contact_sheet


def coloured(image: Image.Image, colour: tuple[int, int, int]) -> set[tuple[int, int]]:
    pixels = image.load()
    return {(x, y) for x in range(image.width) for y in range(image.height) if pixels[x, y] == colour}


def test_a_line_rises_with_its_values_and_has_a_colour_of_its_own():
    image = line_chart({"up": [(0, 0), (1, 1)], "down": [(0, 1), (1, 0)]})
    up = coloured(image, (0x00, 0x72, 0xB2))
    down = coloured(image, (0xE6, 0x9F, 0x00))
    inside = image.width - 150
    assert min(up)[1] > max(point for point in up if point[0] < inside)[1]
    assert min(down)[1] < max(point for point in down if point[0] < inside)[1]


def test_a_logarithmic_axis_makes_a_power_law_straight():
    points = [(10.0**k, 10.0 ** (2 * k)) for k in range(4)]
    axis = Axis(log=True)
    places = [axis.scale([y for _, y in points])(y) for _, y in points]
    assert places == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    ("axis", "values", "ticks"),
    [
        (Axis(), [0, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(), [-3, 50], [0, 20, 40]),
        (Axis(log=True), [0.1, 2], [0.1, 0.2, 0.5, 1, 2]),
        (Axis(log=True), [1e-4, 1], [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (Axis(ticks=(6, 10)), [0, 1], [6, 10]),
    ],
)
def test_ticks_are_round_numbers_within_the_values_or_those_that_were_given(axis, values, ticks):
    assert axis.marks(values) == pytest.approx(ticks)


def test_curves_with_a_blank_before_their_name_have_the_colour_before_and_no_name():
    named = line_chart({"a": [(0, 0), (1, 1)]})
    more = line_chart({"a": [(0, 0), (1, 1)], " b": [(0, 1), (1, 0)]})
    blue = (0x00, 0x72, 0xB2)
    right = named.width - 140
    assert len(coloured(more, blue)) > len(coloured(named, blue))
    assert {p for p in coloured(more, blue) if p[0] > right} == {p for p in coloured(named, blue) if p[0] > right}


@pytest.mark.parametrize(("curves", "axis"), [({}, Axis()), ({"a": []}, Axis()), ({"a": [(0, 1)]}, Axis(log=True))])
def test_a_chart_without_points_or_of_the_logarithm_of_0_is_refused(curves, axis):
    with pytest.raises(ValueError, match="points"):
        line_chart(curves, axis)


def test_a_sheet_has_its_pictures_in_reading_order():
    red, green, blue = (Image.new("RGB", (2, 3), colour) for colour in ("red", "lime", "blue"))
    sheet = contact_sheet([red, green, blue], columns=2, scale=2, gap=1)
    assert sheet.size == (2 * 4 + 1, 2 * 6 + 1)
    assert [sheet.getpixel(at) for at in ((0, 0), (5, 0), (0, 7), (8, 12), (4, 0))] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (255, 255, 255),
    ]  # fmt: skip


def test_labels_stand_above_their_pictures():
    black = Image.new("RGB", (40, 10))
    sheet = contact_sheet([black, black], ["x", ""])
    line = sheet.height - 10
    assert line >= TEXT
    assert min(sheet.crop((0, 0, 40, line)).convert("L").tobytes()) < 128
    assert min(sheet.crop((44, 0, 84, line)).convert("L").tobytes()) == 255


@pytest.mark.parametrize(("count", "labels"), [(0, []), (1, ["a", "b"])])
def test_a_sheet_without_pictures_or_with_too_many_labels_is_refused(count, labels):
    with pytest.raises(ValueError, match="labels"):
        contact_sheet([Image.new("RGB", (1, 1))] * count, labels)
