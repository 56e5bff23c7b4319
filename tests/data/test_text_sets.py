"""Data sets of text: targets are the next tokens, parts do not overlap, windows come from everywhere."""

import hashlib
import io
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.data import load_dataset
from sharplab.data.book import FOLDER, bundled_bpe, read_king_james
from sharplab.data.downloads import Source
from sharplab.data.next_token import next_token_windows
from sharplab.data.tokenizers import BYTES
from sharplab.data.wikitext import WIKITEXT_2, WIKITEXT_103, wikitext_2, wikitext_103


@given(tokens=st.integers(5, 60), length=st.integers(1, 4))
def test_windows_cut_the_stream_and_targets_run_one_token_ahead(tokens, length):
    stream = np.arange(tokens, dtype=np.uint16)
    inputs, targets = next_token_windows(stream, length)
    assert inputs.shape == targets.shape == ((tokens - 1) // length, length)
    assert inputs.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(inputs.ravel(), stream[: inputs.size])
    np.testing.assert_array_equal(targets, inputs + 1)


def test_too_short_a_text_is_refused():
    with pytest.raises(ValueError, match=r"tokens .*8.*9"):
        next_token_windows(np.zeros(8, np.uint8), 8)


@pytest.mark.parametrize(("name", "tokenizer"), [("king-james-bytes", BYTES), ("king-james-bpe", bundled_bpe())])
def test_king_james_windows_are_its_text(name, tokenizer):
    data = load_dataset(name)
    train, held_out = read_king_james()
    length = tokenizer.window
    assert data.classes == tokenizer.vocabulary and data.train_inputs.shape[1:] == (length,)
    assert data.eval_inputs.shape == data.eval_targets.shape == (512, length)
    for inputs, targets, text in [
        (data.train_inputs[:50], data.train_targets[:50], train),
        (data.eval_inputs[:50], data.eval_targets[:50], held_out),
    ]:
        assert inputs.dtype == targets.dtype == np.int32
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
        for window, following in zip(inputs, targets, strict=True):
            assert tokenizer.decode([*window, following[-1]]) in text


def test_king_james_is_cut_nine_to_one_at_a_verse():
    train, held_out = read_king_james()
    assert len(train) + len(held_out) == 4_137_850 and (train + held_out).count(b"\n") == 31_102
    assert train.startswith(b"In the beginning God created the heaven and the earth.\n")
    assert held_out.endswith(b"The grace of our Lord Jesus Christ be with you all. Amen.\n")
    assert train.endswith(b"\n") and abs(len(train) / 4_137_850 - 0.9) < 1e-3


def test_training_windows_are_each_there_once_and_the_first_come_from_everywhere():
    data = load_dataset("king-james-bytes")
    stream = BYTES.encode(read_king_james()[0])
    expected = next_token_windows(stream, 128)[0]
    order = np.lexsort(data.train_inputs.T[::-1])
    np.testing.assert_array_equal(data.train_inputs[order], expected[np.lexsort(expected.T[::-1])])
    text = stream.tobytes()
    places = np.array([text.index(BYTES.decode(window)) for window in data.train_inputs[:64]]) / len(text)
    assert np.histogram(places, bins=4, range=(0, 1))[0].min() >= 6


def test_evaluation_windows_spread_over_the_held_out_text():
    text = read_king_james()[1]
    data = load_dataset("king-james-bytes")
    places = np.array([text.index(BYTES.decode(window)) for window in data.eval_inputs])
    assert (np.diff(places) > 0).all() and places[0] == 0 and places[-1] > 0.99 * len(text)


def test_a_changed_book_is_refused(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "copy")
    content = bytearray((folder / "king-james.txt.xz").read_bytes())
    content[-1] ^= 1
    (folder / "king-james.txt.xz").write_bytes(content)
    with pytest.raises(ValueError, match=r"king-james\.txt\.xz .*SHA-256"):
        read_king_james(folder)


def serve_wikitext(server, name, version="v1", **parts):
    """A zip file in the real layout behind the server, as a source."""
    file, buffer = f"{name}-raw-{version}.zip", io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}-raw/", "")
        for part, text in parts.items():
            archive.writestr(f"{name}-raw/wiki.{part}.raw", text)
    server.files[file] = content = buffer.getvalue()
    return Source(f"{name}/{file}", (f"{server.url}/{file}",), hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(("load", "name"), [(wikitext_2, "wikitext-2"), (wikitext_103, "wikitext-103")])
def test_wikitext_comes_through_the_cache(server, load, name):
    train = " \n = Valkyria Chronicles III = \n \n Senjō no Valkyria 3 ( 戦場のヴァルキュリア3 ) , 12 @.@ 5 % \n" * 40
    source = serve_wikitext(server, name, train=train, valid="held out " * 40, test="never read")
    data = load("bytes", source)
    assert data.name == name and data.classes == 256 and data.train_inputs.shape[1] == 128
    assert all(BYTES.decode(window) in train.encode() for window in data.train_inputs)
    assert BYTES.decode(data.eval_inputs[0]) == ("held out " * 40).encode()[:128]
    pieces = load("bpe", source)
    assert pieces.name == f"{name}-bpe" and pieces.classes == 1024 and pieces.train_inputs.shape[1] == 64
    assert pieces.checksum != data.checksum and len(server.requests) == 1
    changed = load("bytes", serve_wikitext(server, name, version="v2", train=train[1:], valid=train))
    assert changed.checksum != data.checksum


def test_wikitext_archives_are_pinned():
    for source in (WIKITEXT_2, WIKITEXT_103):
        assert len(source.sha256) == 64 and source.size > 4_000_000 and len(set(source.urls)) == 2
