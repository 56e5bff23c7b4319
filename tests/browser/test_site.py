"""The documentation in a browser, from its file: no request beyond it, examples are code, the search finds names."""

import subprocess
import sys
from pathlib import Path

import pytest
from reading import DESKTOP, open_page, requests, wait_for

pytest.importorskip("mkdocs", reason="needs mkdocs: make docs")
pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True)
    return folder


def test_pages_open_from_their_files_and_ask_for_nothing_beyond(browser, site):
    pages = ("index.html", "reference/spectrum.html", "figures/index.html", "figures/report.html", "benchmarks.html")
    for name in (*pages, "tutorials/transfer.html"):
        open_page(browser, site / name, DESKTOP)
        assert [url for url in requests(browser) if not url.startswith((site.as_uri(), "data:", "about:"))] == []


def test_the_benchmarks_are_tables_and_the_gallery_leads_to_the_curves(browser, site):
    open_page(browser, site / "benchmarks.html", DESKTOP)
    places = (ROOT / "docs" / "benchmarks.md").read_text().count("<!-- benchmark: ")
    assert browser.execute_script("return document.querySelectorAll('article table').length") == places > 0
    link = browser.find_element("css selector", "nav a[href$='report.html']").get_attribute("href")
    assert link == (site / "figures" / "report.html").as_uri()


@pytest.mark.parametrize("name", ["norm_sharpness", "eigsh", "read_sweep", "Tracker"])
def test_the_search_leads_to_the_entry_of_a_public_name_without_a_server(browser, site, name):
    open_page(browser, site / "index.html", DESKTOP)
    browser.find_element("css selector", "[data-md-component=search-query]").send_keys(name)
    wait_for(browser, "document.querySelector('.md-search-result__link')")
    found = browser.find_element("css selector", ".md-search-result__link").get_attribute("href")
    assert "/reference/" in found


def test_examples_of_docstrings_are_code(browser, site):
    open_page(browser, site / "reference" / "spectrum.html", DESKTOP)
    prompts = browser.execute_script("return document.querySelectorAll('code .gp').length")
    assert prompts > 3
    texts = "return [...document.querySelectorAll('p')].map((p) => p.textContent).join()"
    assert ">>>" not in browser.execute_script(texts)
