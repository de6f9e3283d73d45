"""The page in a browser, from file://: what is read on it is what the files hold, and nothing goes wrong.

Needs Chromium (Debian: apt-get install chromium; or its path in $CHROMIUM). Skipped where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, Page, find_chromium
from pages import HOLE, SIZE, depth_values, write_case

from prv2cli.choices import Kind
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.photo.read import read_photo
from prv2cli.view.assemble import assemble
from prv2cli.view.material import depth_layers, photo_layer

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium: apt-get install chromium, or name it in $CHROMIUM"
)
READY = "document.documentElement.dataset.ready === ''"
FEATURES = {"prefers-color-scheme": "light", "prefers-reduced-motion": "reduce"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of the whole photograph and two maps; one reduced to a quarter; maps without a unit, and clipped."""
    folder = tmp_path_factory.mktemp("pages")
    photo, fine, coarse = write_case(folder)
    np.save(folder / "disparity.npy", 100 / depth_values())
    from_zero = np.nan_to_num(depth_values(), nan=6) - 3
    np.save(folder / "zeros.npy", from_zero.clip(0))
    np.save(folder / "signed.npy", from_zero)
    write_depth(
        folder / "tele.tif", depth_values(), DepthMetadata(focal_px=10.0 * SIZE[1], focal_origin="exif")
    )
    write_depth(folder / "clipped.png", depth_values(), DepthMetadata(), scale=10_000)
    made = {
        "whole": (10**9, [fine, coarse]),
        "reduced": (SIZE[0] * SIZE[1] // 16, [fine]),
        "relative": (10**9, [folder / "disparity.npy"]),
        "clipped": (10**9, [folder / "clipped.png"]),
        "zeros": (10**9, [folder / "zeros.npy"]),
        "signed": (10**9, [folder / "signed.npy"]),
        "tele": (10**9, [folder / "tele.tif"]),
    }
    paths = {}
    for name, (pixels, depths) in made.items():
        layer = photo_layer(read_photo(photo), pixels)
        kind: Kind = "depth" if name in ("zeros", "signed") else "inverse"
        maps = depth_layers(depths, layer, pixels, relative=True, kind=kind)
        paths[name] = folder / f"{name} ü #1.html"  # an address has to be made of it
        paths[name].write_bytes(assemble(layer, maps))
    return paths


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert PROGRAM is not None
    with Chromium(PROGRAM, tmp_path_factory.mktemp("profile"), (1100, 700)) as found:
        yield found


@pytest.fixture
def show(browser: Chromium, files: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Open one of the pages; afterwards nothing may have been complained about or asked for."""
    opened: list[Page] = []  # one at most: nothing is drawn in a tab behind another

    def opens(name: str, fragment: str = "", **features: str) -> Page:
        wanted = {"features": [{"name": key, "value": value} for key, value in (FEATURES | features).items()]}
        page = browser.open(files[name], fragment, media=wanted)
        opened.append(page)
        page.wait(READY)
        return page

    yield opens
    for page in opened:
        page.value("0")  # a frame later: what comes late has come
        assert page.complaints == []
        page.close()


def _shown(page: Page, depth: int = 0) -> tuple[str, tuple[int, int] | None]:
    """The text of a value, and the row and column of the file that it is from."""
    parts = [
        f"document.querySelector('[data-{part}=\"{depth}\"]').textContent" for part in ("value", "pixel")
    ]
    text, where = page.value(f"[{', '.join(parts)}]")
    if not where:
        return text, None
    x, y = where.removeprefix("pixel ").split(", ")[:2]
    return text, (int(y), int(x))


def _places(page: Page, count: int = 3) -> Iterator[tuple[float, float, float, float]]:
    """Places on the picture: on the screen, and as shares of its width and height."""
    left, top, width, height = page.box(".pane canvas")
    for i in range(count):
        for j in range(count):
            x, y = round(left + width * (i + 0.37) / count), round(top + height * (j + 0.61) / count)
            yield x, y, (x - left) / width, (y - top) / height


@pytest.mark.parametrize("name", ["whole", "reduced"])
def test_the_value_under_the_pointer_is_the_files(name: str, show: Callable[..., Page]) -> None:
    page, depth = show(name), depth_values()
    steps = 1 if name == "whole" else 4
    for x, y, u, v in _places(page):
        page.mouse("mouseMoved", x, y)
        text, place = _shown(page)
        assert place is not None
        row, column = place
        assert abs(row + 0.5 - v * SIZE[0]) <= 0.5 * steps + 1e-6, "the pixel that is pointed at"
        assert abs(column + 0.5 - u * SIZE[1]) <= 0.5 * steps + 1e-6
        expected = depth[row, column]
        if np.isnan(expected):
            assert text == "no depth"
        else:
            number, unit = text.split(" ")
            assert (np.float32(number), unit) == (expected, "m")


def test_16_bit_values_of_another_size(show: Callable[..., Page]) -> None:
    page = show("whole")
    steps = np.rint(depth_values(80, 120).astype(np.float64) * 1000)
    for x, y, u, v in _places(page):
        page.mouse("mouseMoved", x, y)
        text, place = _shown(page, 1)
        assert place == (int(v * 80), int(u * 120))
        known = not np.isnan(steps[place])
        assert text == (f"{steps[place] / 1000:.3f}".rstrip("0").rstrip(".") + " m" if known else "no depth")


def test_holes_have_no_number(show: Callable[..., Page]) -> None:
    page = show("whole")
    left, top, width, height = page.box(".pane canvas")
    row, column = ((part.start + part.stop) / 2 for part in HOLE)
    page.mouse("mouseMoved", left + width * column / SIZE[1], top + height * row / SIZE[0])
    assert [_shown(page, k)[0] for k in (0, 1)] == ["no depth", "no depth"]
    assert page.value("document.querySelector('.chip').textContent") == "no depth"
    page.mouse("mouseMoved", 2, 2)
    assert [_shown(page, k) for k in (0, 1)] == [("–", None), ("–", None)]


def test_a_map_without_a_unit_says_so(show: Callable[..., Page]) -> None:
    page = show("relative", "#at=.1,.1")
    text, place = _shown(page)
    assert place == (16, 24)
    assert text.split(" ", 1)[1] == "relative inverse"
    assert np.float32(text.split()[0]) == np.float32(100) / depth_values()[16, 24]
    assert " m" not in page.value("document.querySelector('aside').innerText")


@pytest.mark.parametrize("name", ["zeros", "signed"])
def test_a_relative_map_from_0_or_below_has_a_scale(name: str, show: Callable[..., Page]) -> None:
    """Its colours have no decades; near is 0, or less."""
    page = show(name, "#at=.5,.5")
    bar = page.picture(".bar canvas")
    assert len(np.unique(bar[-10:].reshape(-1, bar.shape[-1]), axis=0)) > 5, "numbers below the colours"


def test_what_16_bits_clipped_is_at_least_that(show: Callable[..., Page]) -> None:
    assert _shown(show("clipped", "#at=.95,.95"))[0] == "≥ 6.5535 m"


def test_the_divider_moves(show: Callable[..., Page]) -> None:
    page = show("whole")
    left, top, width, height = page.box(".pane canvas")
    now = "document.getElementById('divider').getAttribute('aria-valuenow')"
    before = page.picture(".pane")
    middle = top + height * 0.7
    page.drag((left + width / 2, middle), (left + width / 4, middle))
    assert page.value(now) == "25"
    page.mouse("mouseMoved", 2, 2)
    after = page.picture(".pane")
    x = [int(width * share) for share in (0.1, 0.3, 0.9)]
    y = int(height * 0.4)
    first, between, last = (np.abs(before[y, at].astype(int) - after[y, at]).max() for at in x)
    assert (first, last) == (0, 0)
    assert between > 60, "what was photograph is depth"
    page.value("document.getElementById('divider').focus()")
    for key, expected in (("ArrowRight", "27"), ("Home", "0"), ("End", "100"), ("[", "98")):
        page.key(key)
        assert page.value(now) == expected


def test_photograph_and_depth_lie_upright_on_each_other(show: Callable[..., Page]) -> None:
    """The photograph is stored turned: its red corner is at the top left, and the depth grows to the right."""
    page = show("whole", "#split=1")
    photo = page.picture(".pane").astype(int)
    page.key("x")
    depth = page.picture(".pane").astype(int)
    height, width = photo.shape[:2]
    corners = photo[height // 5, [width // 20, width - width // 20]]
    assert corners[0][0] > 180
    assert corners[1][1] > 150
    brightness = depth[height // 2, [width // 10, width // 2, width - width // 10]].sum(axis=1)
    assert brightness[0] > brightness[1] > brightness[2], "near is bright, and on the left"


def test_any_two_are_compared_and_exchanged(show: Callable[..., Page]) -> None:
    page = show("whole")
    sides = "[document.getElementById('left').value, document.getElementById('right').value].join()"
    assert page.value(sides) == "0,1"
    page.value("(s => { s.value = 2; s.onchange(); })(document.getElementById('left'))")
    page.key("x")
    assert page.value(sides) == "1,2"


def test_side_by_side_the_pointer_is_everywhere(show: Callable[..., Page]) -> None:
    page = show("whole")
    page.key("2")
    page.mouse("mouseMoved", *(part + 30 for part in page.box(".pane:nth-child(3) canvas")[:2]))
    chips = page.value(
        "[...document.querySelectorAll('.pane')].map(p => p.querySelector('.chip').textContent)"
    )
    assert chips == ["", *(_shown(page, k)[0] for k in (0, 1))]
    assert all(chip.endswith(" m") for chip in chips[1:])
    tags = page.value("[...document.querySelectorAll('.tag')].map(t => t.textContent)")
    assert tags == ["photo.jpg", "fine.npy", "coarse.png"]


def test_the_arrow_keys_move_the_pointer_by_pixels(show: Callable[..., Page]) -> None:
    page = show("whole", "#at=.25,.25")
    page.value("document.querySelector('.pane canvas').focus()")
    _, start = _shown(page)
    assert start == (40, 60)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.key(key)
    text, place = _shown(page)
    assert place == (41, 62)
    assert np.float32(text.split()[0]) == depth_values()[place]
    assert text in page.value("document.getElementById('spoken').textContent")


def test_a_line_that_was_given_up_leaves_no_end_behind(show: Callable[..., Page]) -> None:
    page = show("whole", "#at=.25,.25")
    page.value("document.querySelector('.pane canvas').focus()")
    for key in ("l", "Enter", "Escape", "ArrowRight", "l", "Enter"):
        page.key(key)
    assert "One end of the line" in page.value("document.getElementById('spoken').textContent")
    assert page.value("document.getElementById('graph').hidden")
    page.key("ArrowDown")
    page.key("Enter")
    assert page.value("document.getElementById('length').textContent") == "1 pixels of the photograph"


def test_a_line_has_a_profile(show: Callable[..., Page]) -> None:
    page = show("whole")
    left, top, width, height = page.box(".pane canvas")
    y = top + height * 0.3
    assert page.value("document.getElementById('graph').hidden")
    page.drag((left + width * 0.2, y), (left + width * 0.8, y), modifiers=8)
    assert page.value("document.getElementById('length').textContent") == "144 pixels of the photograph"
    drawn = page.picture("#chart").reshape(-1, 3)
    assert len(np.unique(drawn, axis=0)) > 10
    x0, y0, chart_width, _ = page.box("#chart")
    page.mouse("mouseMoved", x0 + 46 + (chart_width - 46 - 8) / 2, y0 + 60)
    text, place = _shown(page)
    assert place is not None
    assert abs(place[1] - 120) <= 1
    assert np.float32(text.split()[0]) == depth_values()[place]
    page.key("Escape")
    assert page.value("document.getElementById('graph').hidden")


def test_enlarged_it_still_reads_right(show: Callable[..., Page]) -> None:
    page = show("whole")
    left, top, width, height = page.box(".pane canvas")
    x, y = left + width * 0.3, top + height * 0.4
    page.mouse("mouseMoved", x, y)
    before = _shown(page)
    for _ in range(4):
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300)
    assert _shown(page) == before, "what is under the pointer stays there"
    page.mouse("mouseMoved", x + 60, y)
    text, place = _shown(page)
    assert place is not None
    assert before[1] is not None
    assert 1 <= place[1] - before[1][1] <= 0.3 * 60 * SIZE[1] / width, "a pixel is larger now"
    assert np.float32(text.split()[0]) == depth_values()[place]


def test_points_are_drawn_and_turn(show: Callable[..., Page]) -> None:
    page = show("whole", "#view=points")
    first = page.picture("#cloud canvas")
    ground = first[2, 2]
    assert (np.abs(first.astype(int) - ground).max(axis=2) > 20).mean() > 0.2
    height, width = first.shape[:2]
    red = (first[..., 0] > 180) & (first[..., 1] < 80)
    assert red.any()
    assert np.argwhere(red).mean(axis=0)[0] < height / 2, "upright"
    assert np.argwhere(red).mean(axis=0)[1] < width / 2
    page.value("document.querySelector('#cloud canvas').focus()")
    for _ in range(4):
        page.key("ArrowRight")
    turned = page.picture("#cloud canvas")
    assert (np.abs(turned.astype(int) - first).max(axis=2) > 20).mean() > 0.05
    page.key("0")
    inside = (slice(10, -10), slice(10, -10))  # without the ring of the focus
    assert np.array_equal(page.picture("#cloud canvas")[inside], first[inside])
    assert "60°" in page.value("document.getElementById('fov-note').textContent")


def test_fingers_turn_the_points_and_bring_them_nearer(show: Callable[..., Page]) -> None:
    """By the places of the pointers: iOS 16 tells no movement between them."""
    page = show("whole", "#view=points")
    page.value("delete PointerEvent.prototype.movementX, delete MouseEvent.prototype.movementX, 0")
    left, top, width, height = page.box("#cloud canvas")
    y = top + height / 2

    def touch(kind: str, *xs: float) -> np.ndarray:
        points = [{"x": left + width * x, "y": y, "id": number} for number, x in enumerate(xs)]
        page.ask("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        return page.picture("#cloud canvas")

    def drawn(picture: np.ndarray) -> float:
        return float((np.abs(picture.astype(int) - picture[2, 2]).max(axis=2) > 20).mean())

    first = touch("touchStart", 0.4)
    turned = touch("touchMove", 0.45)
    assert (np.abs(turned.astype(int) - first).max(axis=2) > 20).mean() > 0.05
    touch("touchStart", 0.45, 0.55)
    nearer = touch("touchMove", 0.4, 0.6)
    assert drawn(nearer) > 1.2 * drawn(turned) > 0.1
    touch("touchEnd")


def test_a_long_lens_has_its_own_field_of_view(show: Callable[..., Page]) -> None:
    """Of 5.7 degrees, beyond the usual end of the slider."""
    page = show("tele", "#view=points")
    assert page.value("document.getElementById('fov').value") == "5.7"
    assert page.value("document.getElementById('fov-text').textContent") == "5.7°"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light(scheme: str, show: Callable[..., Page]) -> None:
    page = show("reduced", **{"prefers-color-scheme": scheme})
    corner = page.picture()[-3, 3].mean()
    assert (corner < 60) == (scheme == "dark")
    page.key("t")
    assert (page.picture()[-3, 3].mean() < 60) == (scheme == "light")


@pytest.mark.parametrize(("name", "said"), [("whole", False), ("reduced", True)])
def test_what_is_reduced_is_said(name: str, said: bool, show: Callable[..., Page]) -> None:
    told = show(name).value("document.getElementById('size').textContent")
    assert told.startswith("240 × 160 (0.0384 megapixels)")
    assert ("reduced to 60 × 40 for this page" in told) == said


def test_texts_of_files_are_texts(show: Callable[..., Page]) -> None:
    page = show("whole")
    assert "</script>" in page.value("document.getElementById('files').textContent")
    assert page.value("document.title") == "photo.jpg · depth"


def test_keys_are_explained_and_everything_has_a_name(show: Callable[..., Page]) -> None:
    page = show("whole")
    page.key("?")
    assert page.value("document.getElementById('help').open")
    page.key("Escape")
    for mode in "123":
        page.key(mode)
        tree = page.ask("Accessibility.getFullAXTree")["nodes"]
        named = {"button", "slider", "radio", "combobox", "application"}
        nameless = [
            node["role"]["value"]
            for node in tree
            if node.get("role", {}).get("value") in named and not node.get("name", {}).get("value")
        ]
        assert nameless == []


def test_nothing_is_wider_than_a_phone(show: Callable[..., Page]) -> None:
    page = show("whole")
    page.ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=False)
    for mode in "123":
        page.key(mode)
        assert page.value("document.documentElement.scrollWidth") == 360
