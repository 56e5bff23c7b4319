"""The page: all in one file, with curves, and text that cannot become markup."""

import base64
import json
import re
from html import unescape
from html.parser import HTMLParser

import pandas as pd
import pytest
from made_figures import leave

from sharplab.gallery import collect, write_report
from sharplab.gallery.entries import figure_scripts


class Collected(HTMLParser):
    """What a page refers to, and whether what it opens it closes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.addresses, self.ids, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[key] for key in ("href", "src") if key in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path):
    leave(tmp_path, "transfer", claim='1 < 2 & "so"</script><b>')
    leave(tmp_path, "adam", verdict="fails", table=pd.DataFrame({"name": ["<i>", "b"], "seconds": [1.0, 2.0]}))
    return tmp_path


@pytest.fixture
def page(folder):
    return write_report(folder, collect(folder)).read_text()


def test_the_page_has_all_in_it_and_its_tags_close(folder, page):
    found = Collected(page)
    assert found.open == []
    outside = [a for a in found.addresses if not a.startswith(("#", "data:"))]
    assert outside == ["https://arxiv.org/abs/2402.17457"]  # a link to click, nothing to load
    assert {a[1:] for a in found.addresses if a.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    files = {a.partition(",")[2] for a in found.addresses if a.startswith("data:")}
    for name in ("transfer.png", "transfer.csv", "transfer.json", "adam.csv"):
        assert base64.b64encode((folder / name).read_bytes()).decode() in files


def test_words_of_a_figure_stay_words(page):
    assert "<b>" not in page and "&lt;/script&gt;&lt;b&gt;" in page
    assert "<i>" not in page and "&lt;i&gt;" in page


def test_curves_in_the_page_are_those_of_the_table(page):
    specs = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert len(specs) == 4  # sweep and trajectory, muP and NTK
    assert {trace["name"] for spec in specs for trace in json.loads(spec)["data"]} == {"width 8", "width 16"}


def test_a_table_that_is_no_curve_is_shown_as_a_table(page):
    section = page.split('<h2 id="adam">')[1].split("<h2")[0]
    assert "The first 2 of the table's 2 rows" in section and "plot" not in section


def test_the_same_files_make_the_same_page(folder, page):
    assert write_report(folder, collect(folder)).read_text() == page


def test_the_docstring_of_the_script_can_be_read_in_the_page(page):
    text = figure_scripts()["transfer"].read_text().split('"""')[1].strip().splitlines()[0]
    assert text in unescape(page)
