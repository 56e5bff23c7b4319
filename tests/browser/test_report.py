"""The report in a browser, from its file: no error, no request, and plots and filters that answer."""

import json
import re
from pathlib import Path

import pytest
from made_figures import leave
from reading import DESKTOP, PHONE, open_page, requests, wait_for

from sharplab.gallery import collect, write_report
from sharplab.gallery.claims import CLAIMS
from sharplab.gallery.entries import MARKS, NOT_MADE, verdict_on
from sharplab.gallery.meaning import topic

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


def open_all(browser, within="body"):
    """Open what is folded, and scroll at once from here on."""
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    fold = "document.querySelectorAll(`${arguments[0]} details`).forEach((part) => { part.open = true; })"
    browser.execute_script(fold, within)


def scroll_through(browser):
    """Down the whole page, by way of every plot, until each is drawn or has nothing to show and is hidden."""
    open_all(browser)
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


def test_each_claim_shows_the_verdicts_of_the_json_files_and_one_picture(browser, report):
    path, entries = report
    open_page(browser, path, DESKTOP)
    claims = {claim.get_attribute("id"): claim for claim in browser.find_elements("css selector", ".claim")}
    assert list(claims) == list(CLAIMS)
    for name, claim in claims.items():
        overall = verdict_on(name, entries)
        assert claim.find_element("css selector", "h3 .verdict").text == (MARKS[overall] if overall else NOT_MADE)
        shown = [picture for picture in claim.find_elements("css selector", "img") if picture.is_displayed()]
        assert len(shown) == (overall is not None)
    for entry in entries:
        figure = browser.find_element("css selector", f"article#{entry.name}")
        badges = [badge.text for badge in figure.find_elements("css selector", ".verdict")]
        assert badges == [entry.mark] or (not badges and len([e for e in entries if e.claims == entry.claims]) == 1)
        if entry.made:
            stated = json.loads((path.parent / f"{entry.name}.json").read_text())["verdict"]
            assert figure.get_attribute("data-verdict") == stated
            assert entry.meaning in figure.find_element("css selector", ".meaning").text


def shown(browser):
    """The figures that the filters let through, by name, in their order, and what the page says of how many."""
    figures = browser.find_elements("css selector", "article.figure")
    names = [figure.get_attribute("id") for figure in figures if figure.is_displayed()]
    said = browser.find_element("css selector", "#filter output").text
    assert said == f"{len(names) or 'None'} of {len(figures)} figures"
    return names


def by_keyboard(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def test_filters_work_by_keyboard_and_hide_claims_without_figures(browser, report):
    from selenium.webdriver.common.keys import Keys

    path, entries = report
    open_page(browser, path, DESKTOP)
    assert shown(browser) == [entry.name for entry in entries]
    focused = "return document.activeElement.id || document.activeElement.value"
    by_keyboard(browser, "/", "ADAM  mup")  # any case, in any order, both words
    assert browser.execute_script(focused) == "words"
    found = shown(browser)
    assert "adam" in found and "perceptron" not in found and len(found) < len(entries)
    by_keyboard(browser, Keys.TAB, "C8")  # a select takes what is typed
    assert shown(browser) == ["adam"]
    claims = browser.find_elements("css selector", ".claim, #beyond")
    assert [claim.get_attribute("id") for claim in claims if claim.is_displayed()] == ["C8"]
    by_keyboard(browser, Keys.TAB)
    assert browser.execute_script(focused) == "preset"
    for verdict in (*MARKS, ""):
        by_keyboard(browser, Keys.TAB)
        assert browser.execute_script(focused) in (verdict, "on")
        by_keyboard(browser, Keys.SPACE)
    assert shown(browser) == []
    by_keyboard(browser, Keys.TAB, Keys.ENTER)  # Show all
    wait_for(browser, "document.querySelectorAll('article.figure[hidden]').length === 0")
    assert shown(browser) == [entry.name for entry in entries]
    assert browser.get_log("browser") == []


def test_filters_by_verdict_topic_and_preset_agree_with_the_entries(browser, report):
    from selenium.webdriver.support.ui import Select

    path, entries = report
    open_page(browser, path, DESKTOP)
    boxes = browser.find_elements("css selector", "#filter [name=verdict]")
    for box in boxes[1:]:
        box.click()
    assert shown(browser) == [entry.name for entry in entries if entry.verdict == "holds"]
    boxes[1].click()
    wanted = [entry for entry in entries if entry.verdict in ("holds", "fails")]
    assert shown(browser) == [entry.name for entry in wanted]
    Select(browser.find_element("id", "topic")).select_by_value("curvature")
    wanted = [entry for entry in wanted if topic(entry.name) == "curvature"]
    assert shown(browser) == [entry.name for entry in wanted] and wanted
    Select(browser.find_element("id", "preset")).select_by_visible_text("quick")
    assert shown(browser) == [entry.name for entry in wanted if entry.made.preset == "quick"]
    browser.execute_script("location.hash = 'transfer'")  # a link to what is hidden shows all
    wait_for(browser, "document.querySelectorAll('article.figure[hidden]').length === 0")


def test_a_phone_fits_pictures_and_filters_and_a_tap_enlarges_a_picture_within_its_box(browser, report, screenshots):
    path, _ = report
    open_page(browser, path, PHONE, touch=True)
    widths = "return [...document.querySelectorAll('#filter *, .picture, .picture img')].map((e) => e.offsetWidth ?? 0)"
    assert max(browser.execute_script(widths)) <= PHONE[0]
    open_all(browser, "#transfer")
    picture = browser.find_element("css selector", "#transfer .picture")
    browser.execute_script("arguments[0].click()", picture)
    assert picture.get_attribute("aria-pressed") == "true"
    assert browser.execute_script("return arguments[0].querySelector('img').offsetWidth", picture) > 2 * PHONE[0]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    browser.execute_script("arguments[0].scrollIntoView()", picture)
    browser.save_screenshot(str(screenshots / f"{path.parent.name}-enlarged.png"))
    browser.execute_script("arguments[0].click()", picture)
    assert browser.execute_script("return arguments[0].querySelector('img').offsetWidth", picture) <= PHONE[0]


def test_fields_buttons_and_folds_have_names_for_screen_readers(browser, report):
    open_page(browser, report[0], DESKTOP)
    for element in browser.find_elements("css selector", "input, select, button, summary, nav, form, #filter fieldset"):
        assert element.accessible_name or element.text or not element.is_displayed(), element.get_attribute("outerHTML")
    words = browser.find_element("id", "words")
    assert (words.accessible_name, words.aria_role) == ("Search", "searchbox")


def first_plot(browser, figure="transfer", *, menu=False):
    """The group of the first plot of a figure that has a menu or need not, drawn."""
    open_all(browser, f"#{figure}")
    has = ":has(select)" if menu else ""
    group = browser.find_element("css selector", f"#{figure} .plots{has}")
    browser.execute_script("arguments[0].scrollIntoView()", group)
    plot = group.find_element("css selector", ".plot")
    wait_for(browser, f"document.querySelector('#{figure} .plots{has} .plot').data")
    return group, plot


def test_dragging_zooms_a_plot_and_a_double_click_shows_all_again(browser, report):
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, report[0], DESKTOP)
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
    _, plot = first_plot(browser)
    assert browser.execute_script("return arguments[0]._fullLayout.dragmode", plot) is False
    width = "return arguments[0]._fullLayout.xaxis.range.reduce((low, high) => high - low)"
    before = browser.execute_script(width, plot)
    browser.execute_script("arguments[0].click()", plot.find_element("css selector", "[data-title='Zoom in']"))
    after = "document.querySelector('#transfer .plots .plot')._fullLayout.xaxis.range"
    wait_for(browser, f"{after}.reduce((low, high) => high - low) < {0.9 * before}")
