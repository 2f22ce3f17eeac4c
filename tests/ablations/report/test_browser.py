"""The page in a real browser, where there is one."""

import time

import pytest

from ablations.report import write_report
from ablations.store import RunStore
from tests.helpers.chromium import find_chromium, open_chromium
from tests.helpers.results_folder import plan_row, plan_rows, write_results, write_store

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
ROWS = "[...document.querySelectorAll('table.results tbody tr')].map(row => row.id)"
ENTER = ("Enter", 13, "\r")
LARGE_SECONDS = 60
"""For 60 rows and 20 seeds on a busy machine; idle, it takes less than 20."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    rows = plan_rows(5)
    rows[2] = plan_row(2, "+ <script>alert(1)</script> of a name that is much too long for a narrow window")
    write_results(folder / "small", rows, 3, scores={(3, seed): "diverged" for seed in range(3)})
    write_store(folder / "runs", rows, 3)
    return write_report(folder / "small", RunStore(folder / "runs"))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    rows = plan_rows(60)
    write_results(folder / "small", rows, 20)
    write_store(folder / "runs", rows, 20, epochs=100, images=500)
    started = time.perf_counter()
    page = write_report(folder / "small", RunStore(folder / "runs"))
    return page, time.perf_counter() - started


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_chromium(str(CHROMIUM), tmp_path_factory.mktemp("profile")) as page:
        yield page


def test_the_page_loads_alone_and_without_a_complaint(browser, small):
    browser.size(1280)
    browser.open(small)
    assert browser.evaluate("document.querySelectorAll('figure svg').length") == 7
    assert [address for address in browser.requests if not address.startswith("data:")] == [small.as_uri()]
    assert browser.complaints == []


def test_a_click_sorts_and_another_turns_it_round(browser, small):
    browser.size(1280)
    browser.open(small)
    study = [f"row-{index}" for index in range(5)]
    assert browser.evaluate(ROWS) == study
    scores = browser.evaluate(
        "[...document.querySelectorAll('table.results tbody tr')].map(row => row.cells[2].dataset.order)"
    )
    by_score = sorted((index for index in range(5) if scores[index]), key=lambda index: float(scores[index]))
    click = "document.querySelectorAll('table.results th button')[2].click()"
    state = "document.querySelectorAll('table.results thead th')[2].getAttribute('aria-sort')"
    browser.evaluate(click)
    assert browser.evaluate(ROWS) == [f"row-{index}" for index in [*by_score, 3]]  # a row without a score stays last
    assert browser.evaluate(state) == "ascending"
    browser.evaluate(click)
    assert browser.evaluate(ROWS) == [f"row-{index}" for index in [*by_score[::-1], 3]]
    assert browser.evaluate(state) == "descending"
    assert browser.evaluate("document.querySelectorAll('[aria-sort]').length") == 1


def test_the_keyboard_sorts(browser, small):
    browser.size(1280)
    browser.open(small)
    browser.evaluate("document.querySelectorAll('table.results th button')[0].focus()")
    browser.press(*ENTER)
    assert browser.evaluate(ROWS) == [f"row-{index}" for index in reversed(range(5))]


def test_every_anchor_leads_somewhere(browser, small):
    browser.open(small)
    lost = "[...document.querySelectorAll('a')].filter(a => !document.getElementById(a.getAttribute('href').slice(1)))"
    assert browser.evaluate(f"{lost}.length") == 0
    assert browser.evaluate("document.querySelectorAll('a').length") > 20
    browser.evaluate("document.querySelector('#row-4 a').click()")
    assert browser.evaluate("location.hash") == "#recipe-4"
    assert browser.evaluate("document.querySelector(':target').id") == "recipe-4"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_window_does_not_scroll_sideways(browser, small, width):
    browser.size(width)
    browser.open(small)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.body.scrollWidth") <= width


def test_dark_is_dark_and_light_is_light_in_figures_too(browser, small):
    browser.size(1280)
    for scheme, darker in (("light", "ink"), ("dark", "paper")):
        browser.colors(scheme)
        browser.open(small)
        paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        ink = browser.evaluate("getComputedStyle(document.querySelector('#waterfall svg text')).fill")
        brightness = {"paper": _brightness(paper), "ink": _brightness(ink)}
        assert min(brightness, key=lambda name: brightness[name]) == darker
        assert abs(brightness["paper"] - brightness["ink"]) > 400


def _brightness(color):
    """Return the sum of red, green and blue of `rgb(r, g, b)`."""
    return sum(map(int, color[4:-1].split(",")))


def test_the_head_of_the_table_stays_in_sight(browser, large):
    browser.size(1280, 800)
    browser.open(large[0])
    assert len(browser.evaluate(ROWS)) == 60
    browser.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    browser.evaluate("document.querySelector('#row-50').scrollIntoView({block: 'center'})")
    place = "document.querySelector('table.results thead th').getBoundingClientRect()"
    assert browser.evaluate(f"{place}.top") >= 0
    assert browser.evaluate(f"{place}.bottom") < 800


def test_sixty_rows_of_twenty_seeds_make_a_page_of_a_few_megabytes(browser, large):
    path, seconds = large
    assert path.stat().st_size < 8e6
    assert seconds < LARGE_SECONDS
    browser.size(390)
    browser.open(path)
    assert browser.complaints == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390


def test_print_shows_the_whole_table(browser, large):
    browser.size(1000)
    browser.open(large[0])
    browser.command("Emulation.setEmulatedMedia", media="print")
    box = "document.querySelector('.scroll.wide')"
    try:
        assert browser.evaluate(f"{box}.scrollHeight <= {box}.clientHeight + 1")
        assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        browser.command("Emulation.setEmulatedMedia", media="")
