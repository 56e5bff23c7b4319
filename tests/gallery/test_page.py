"""The page: all in one file, with curves, and text that cannot become markup."""

import base64
import gzip
import hashlib
import json
import re
from html import escape, unescape
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_figures import leave
from PIL import Image
from plotly.offline import get_plotlyjs

from sharplab.gallery import collect, write_report
from sharplab.gallery.entries import EXPERIMENTS, MARKS, figure_scripts
from sharplab.gallery.meaning import meaning
from sharplab.gallery.page import _picture
from sharplab.gallery.page import page as page_of
from sharplab.gallery.readme import readme


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
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def unpacked(text):
    """What is kept compressed in a page."""
    return gzip.decompress(base64.b64decode(text)).decode()


def curves(page):
    """The figures of all groups of curves of a page."""
    groups = re.findall(r'<script type="application/gzip" class="curves">(.*?)</script>', page)
    return [figure for group in groups for figure in json.loads(unpacked(group))]


@pytest.fixture
def folder(tmp_path):
    leave(tmp_path, "transfer", claim='1 < 2 & "so"</script><b>')
    leave(tmp_path, "adam", verdict="fails", table=pd.DataFrame({"name": ["<i>", "b"], "seconds": [1.0, 2.0]}))
    return tmp_path


@pytest.fixture
def page(folder):
    return write_report(folder, collect(folder)).read_text()


def test_the_page_loads_nothing_links_to_what_lies_beside_it_and_its_tags_close(folder, page):
    found = Collected(page)
    assert found.open == []
    outside = {a for a in found.addresses if not a.startswith(("#", "data:"))}
    beside = {f"./{name}.{kind}" for name in ("transfer", "adam") for kind in ("csv", "json")}
    assert outside == {"https://arxiv.org/abs/2402.17457", *beside}  # links to click, nothing to load
    assert all((folder / name).is_file() for name in beside)
    assert {a[1:] for a in found.addresses if a.startswith("#")} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_pictures_of_the_page_are_those_of_the_folder_in_fewer_colours(folder, page):
    pictures = (a.partition(",")[2] for a in Collected(page).addresses if a.startswith("data:image/webp"))
    shown, _ = (base64.b64decode(picture) for picture in pictures)
    ours, original = (Image.open(x).convert("RGB") for x in (BytesIO(shown), folder / "transfer.png"))
    assert ours.size == original.size and ours.getpixel((0, 0)) == original.getpixel((0, 0))
    assert np.abs(np.asarray(ours, int) - np.asarray(original, int)).mean() < 1  # out of 255


def test_thin_lines_keep_their_colour_in_a_picture_of_many(tmp_path):
    # A gradient of many colours, as of a scatter plot, and two lines of one pixel, as of a legend.
    shades = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8)
    drawn = np.dstack([shades, np.full((256, 256), 128, np.uint8)])
    drawn[10], drawn[20] = (213, 94, 0), (0, 114, 178)
    Image.fromarray(drawn).save(tmp_path / "a.png")
    shown = np.asarray(Image.open(BytesIO(_picture(tmp_path / "a.png"))).convert("RGB"), int)
    assert np.abs(shown[10] - (213, 94, 0)).max() <= 8
    assert np.abs(shown[20] - (0, 114, 178)).max() <= 8


def test_the_library_that_draws_comes_packed_and_once_and_all_together_is_small(page):
    (packed,) = re.findall(r'<script type="application/gzip" id="plotly">(.*?)</script>', page)
    assert unpacked(packed) == get_plotlyjs()
    assert len(page) < 2.5e6


@pytest.mark.long
def test_the_report_of_the_repository_stays_below_five_million_bytes(tmp_path):
    figures = EXPERIMENTS.parent / "figures"
    if not list(figures.glob("*.json")):
        pytest.skip("needs figures: make gallery")
    assert len(page_of(figures, collect(figures)).encode()) <= 5e6


def test_words_of_a_figure_stay_words(page):
    assert "<b>" not in page and "&lt;/script&gt;&lt;b&gt;" in page
    assert "<i>" not in page and "&lt;i&gt;" in page


def test_a_figure_says_what_its_verdict_means_and_is_found_by_claim_topic_verdict_and_preset(page):
    article = page.split('<article class="figure" id="adam"')[1].split("</article>")[0]
    assert escape(meaning("adam", "fails")) in article and escape(meaning("adam", "holds")) not in article
    assert (
        'data-verdict="fails"' in article and 'data-preset="quick"' in article and 'data-topics="C8 width"' in article
    )
    assert article.index("In practice") < article.index("<img") < article.index("<details><summary>Numbers")


def test_every_field_of_the_filter_has_a_label_or_stands_in_one(page):
    form = page.split('<form id="filter"')[1].split("</form>")[0]
    fields = set(re.findall(r'<(?:input|select) id="(\w+)"', form))
    assert fields == {"words", "topic", "preset"} == set(re.findall(r'<label for="(\w+)"', form))
    assert form.count("<input") - 1 == form.count("<label><input") == len(MARKS) + 1  # a box per verdict, and none
    assert set(re.findall(r'value="(\w+)"[^>]*>', form)) >= {"holds", "fails", "inconclusive", "width", "depth"}


def test_curves_in_the_page_are_those_of_the_table(page):
    figures = curves(page)
    assert len(figures) == page.count('<div class="plot">') == 4  # sweep and trajectory, muP and NTK
    assert {trace["name"] for figure in figures for trace in figure["data"]} == {"width 8", "width 16"}


def test_numbers_of_curves_have_four_digits(page):
    spread = curves(page)[-1]["data"][0]["error_y"]["array"]  # of seeds whose sharpness differs by 1
    assert spread == [0.7071] * 3


def test_a_table_that_is_no_curve_is_shown_as_a_table(page):
    section = page.split('id="adam"')[1].split("</article>")[0]
    assert "The first 2 of the table's 2 rows" in section and "plot" not in section


def test_the_same_files_make_the_same_page(folder, page):
    assert write_report(folder, collect(folder)).read_text() == page


def test_the_docstring_of_the_script_can_be_read_in_the_page(page):
    text = figure_scripts()["transfer"].read_text().split('"""')[1].strip().splitlines()[0]
    assert text in unescape(page)


def test_browsers_run_no_script_but_those_of_the_policy(page):
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    assert "unsafe-inline" not in unescape(policy).partition("script-src")[2]
    allowed = set(re.findall(r"'sha256-(.*?)'", unescape(policy)))
    run = [*re.findall(r"<script>(.*?)</script>", page, re.DOTALL), get_plotlyjs()]
    assert len(run) == 2
    assert allowed == {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run}


def test_a_preset_that_is_none_is_refused(folder):
    made = folder / "adam.json"
    stated = json.loads(made.read_text()) | {"preset": "<img src=x onerror=alert(1)>"}
    made.write_text(json.dumps(stated))
    with pytest.raises(ValueError, match="preset"):
        collect(folder)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b'"a\nb,c', b"a,b\n1\n2,3,4\n"])
@pytest.mark.parametrize("kind", ["csv", "png"])
def test_a_damaged_table_or_picture_is_named(folder, kind, damage):
    (folder / f"adam.{kind}").write_bytes(damage)
    with pytest.raises(ValueError, match=f"adam.{kind}"):
        write_report(folder, collect(folder))


NASTY = st.sampled_from(
    ["<img src=x onerror=alert(1)>", "</script><b>", "` | \n# x", "\x1b[2J", "mup", "", "x_interval"]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY | st.sampled_from("abc"), inner, max_size=4),
    max_leaves=12,
)


class Tags(HTMLParser):
    """The tags of a page that run or load, and all attributes that would."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.bad = 0, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.bad += [name for name, _ in attrs if name.startswith("on")] + [tag] * (tag == "b")


@pytest.mark.long
@settings(max_examples=15)
@given(numbers=st.dictionaries(NASTY, ANY, max_size=4), texts=st.lists(NASTY, min_size=4, max_size=4), cells=st.data())
def test_whatever_a_figure_states_is_shown_as_text(tmp_path_factory, numbers, texts, cells):
    folder = tmp_path_factory.mktemp("figures")
    columns = dict(
        zip(["learning_rate", *texts], [[0.5, 1.0, 2.0], *([cells.draw(ANY)] * 3 for _ in texts)], strict=True)
    )
    leave(folder, "adam", claim=texts[0], table=pd.DataFrame(columns))
    made = folder / "adam.json"
    stated = json.loads(made.read_text()) | {"numbers": numbers, "versions": {texts[1]: texts[2]}}
    made.write_text(json.dumps(stated))
    try:
        entries = collect(folder)
    except ValueError as error:
        assert "adam.json" in str(error)
        return
    found = Tags(page_of(folder, entries))
    assert found.bad == [] and found.scripts >= 3
    text = readme(entries)
    assert "\x1b" not in text and "<img" not in re.sub(r"`[^`]*`", "", text) and "\n# x" not in text
