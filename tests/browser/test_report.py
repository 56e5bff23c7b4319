"""The report in a browser, from its file: no error, no request, and plots that answer."""

import json
import re
from pathlib import Path

import pytest
from made_figures import leave
from reading import DESKTOP, PHONE, open_page, requests, wait_for

from sharplab.gallery import collect, write_report
from sharplab.gallery.claims import CLAIMS
from sharplab.gallery.entries import MARKS, NOT_MADE, verdict_on

pytestmark = pytest.mark.browser
FIGURES = Path(__file__).parents[2] / "figures"


@pytest.fixture(scope="module", params=["two figures", "the repository's figures"])
def report(request, tmp_path_factory):
    """A page's path and the figures that it shows."""
    folder = tmp_path_factory.mktemp("figures")
    if request.param == "two figures":
        leave(folder, "transfer", verdict="inconclusive")
        leave(folder, "sharpening", verdict="fails")
    else:
        for path in FIGURES.glob("*.*"):
            (folder / path.name).write_bytes(path.read_bytes())
    entries = collect(folder)
    return write_report(folder, entries), entries


def scroll_through(browser):
    """Down the whole page, by way of every plot, until each is drawn or has nothing to show and is hidden."""
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    for plot in browser.find_elements("css selector", ".plot"):
        browser.execute_script("arguments[0].scrollIntoView()", plot)
        wait_for(browser, "arguments[0].data || arguments[0].closest('figure').hidden", plot)


@pytest.mark.parametrize(("size", "touch"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone"])
def test_page_opens_from_its_file_without_error_request_or_sideways_scrolling(
    browser, report, size, touch, screenshots
):
    path, _ = report
    open_page(browser, path, size, touch=touch)
    scroll_through(browser)
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert asked.count(path.as_uri()) == 1
    assert [url for url in asked if url != path.as_uri() and not url.startswith(("data:", "blob:"))] == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    beyond = (
        "return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide') && !e.closest('svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert browser.execute_script(beyond) == []
    browser.execute_script("scrollTo(0, 0)")
    browser.save_screenshot(str(screenshots / f"{path.parent.name}-{size[0]}.png"))


def test_claims_table_shows_a_row_per_claim_with_the_verdicts_of_the_json_files(browser, report):
    path, entries = report
    open_page(browser, path, DESKTOP)
    rows = {row.get_attribute("id"): row for row in browser.find_elements("css selector", "table.claims tr[id]")}
    assert list(rows) == list(CLAIMS)
    for claim, row in rows.items():
        first, *others = [badge.text for badge in row.find_elements("css selector", ".verdict")]
        verdicts = [entry.verdict for entry in entries if claim in entry.claims]
        assert others == [MARKS[v] if v else NOT_MADE for v in verdicts]
        overall = verdict_on(claim, entries)
        assert first == (MARKS[overall] if overall else NOT_MADE)
    for entry in entries:
        if entry.made:
            stated = json.loads((path.parent / f"{entry.name}.json").read_text())["verdict"]
            badge = browser.find_element("css selector", f"h2#{entry.name} ~ p .verdict")
            assert badge.text == MARKS[stated]


def first_plot(browser, figure="transfer", *, menu=False):
    """The group of the first plot of a figure that has a menu or need not, drawn."""
    has = ":has(select)" if menu else ""
    group = browser.find_element("css selector", f"h2#{figure} ~ .plots{has}")
    browser.execute_script("arguments[0].scrollIntoView()", group)
    plot = group.find_element("css selector", ".plot")
    wait_for(browser, f"document.querySelector('h2#{figure} ~ .plots{has} .plot').data")
    return group, plot


def test_dragging_zooms_a_plot_and_a_double_click_shows_all_again(browser, report):
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, report[0], DESKTOP)
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    _, plot = first_plot(browser)
    ranges = "return ['xaxis', 'yaxis'].map((axis) => arguments[0]._fullLayout[axis].range.slice())"
    before = browser.execute_script(ranges, plot)
    area = plot.find_element("css selector", ".nsewdrag")
    ActionChains(browser).move_to_element(area).click_and_hold().move_by_offset(80, 60).release().perform()
    zoomed = browser.execute_script(ranges, plot)
    for (low, high), (lower, higher) in zip(zoomed, before, strict=True):
        assert high - low < 0.6 * (higher - lower)
    ActionChains(browser).double_click(area).perform()
    same = "arguments[0]._fullLayout.xaxis.range.every((end, i) => Math.abs(end - arguments[1][i]) < 1e-9)"
    wait_for(browser, same, plot, before[0])
    assert browser.execute_script(ranges, plot)[1] == pytest.approx(before[1])


def test_menu_changes_the_quantity_in_every_panel_of_the_plot(browser, report):
    from selenium.webdriver.support.ui import Select

    open_page(browser, report[0], DESKTOP)
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    group, _ = first_plot(browser, menu=True)
    shown = (
        "return [...arguments[0].querySelectorAll('figure:not([hidden]) .js-plotly-plot')].map((plot) => "
        "[plot.layout.yaxis.title.text, plot.data.filter((t) => t.visible === true).map((t) => t.meta.quantity)])"
    )
    menu = Select(group.find_element("css selector", "select"))
    names = [option.get_attribute("value") for option in menu.options]
    assert len(names) >= 2
    for name in (names[1], names[0]):
        menu.select_by_value(name)
        panels = browser.execute_script(shown, group)
        assert panels
        for title, quantities in panels:
            assert set(quantities) == {name}
            assert title == re.sub("_", " ", name)
    assert browser.get_log("browser") == []


def test_a_finger_scrolls_the_page_past_a_plot_and_the_buttons_zoom_it(browser, report):
    open_page(browser, report[0], PHONE, touch=True)
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    _, plot = first_plot(browser)
    assert browser.execute_script("return arguments[0]._fullLayout.dragmode", plot) is False
    width = "return arguments[0]._fullLayout.xaxis.range.reduce((low, high) => high - low)"
    before = browser.execute_script(width, plot)
    browser.execute_script("arguments[0].click()", plot.find_element("css selector", "[data-title='Zoom in']"))
    after = "document.querySelector('h2#transfer ~ .plots .plot')._fullLayout.xaxis.range"
    wait_for(browser, f"{after}.reduce((low, high) => high - low) < {0.9 * before}")
