"""Tokenizers: lossless, within their vocabulary, and the bundled one as it was trained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.data import tokenizers
from sharplab.data.book import FOLDER, MODEL, bundled_bpe, read_king_james, train_bundled_bpe
from sharplab.data.tokenizers import BYTES

# U+2581 is how sentencepiece writes a space; a lone surrogate is no text.
TEXT = st.text(st.characters(exclude_characters="\u2581", exclude_categories=("Cs",)))


@given(TEXT)
def test_every_text_survives_encoding(text):
    for tokenizer in (BYTES, bundled_bpe()):
        tokens = tokenizer.encode(text.encode())
        assert tokenizer.decode(tokens) == text.encode()
        assert tokens.ndim == 1 and (tokens < tokenizer.vocabulary).all()


@given(st.text(" \n\tab,\u00e9-", max_size=60))
def test_word_by_word_is_the_same_as_all_at_once(text):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / MODEL))
    assert bundled_bpe().encode(text.encode()).tolist() == processor.encode(text)


def test_the_bundled_text_encodes_as_sentencepiece_does():
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / MODEL))
    sample = read_king_james()[1][:50_000]
    tokens = bundled_bpe().encode(sample)
    assert tokens.tolist() == processor.encode(sample.decode())
    assert 2.5 < len(sample) / len(tokens) < 3.5


def test_chunks_change_nothing(monkeypatch):
    text = read_king_james()[1][:20_000]
    whole = bundled_bpe().encode(text)
    monkeypatch.setattr(tokenizers, "CHUNK_CHARACTERS", 1000)
    np.testing.assert_array_equal(bundled_bpe().encode(text), whole)


def test_the_bundled_tokenizer_can_be_trained_again():
    import sentencepiece

    def pieces(model):
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]

    # Pieces, not bytes: the file also names the settings, whose list grows with sentencepiece's versions.
    assert pieces(train_bundled_bpe()) == pieces((FOLDER / MODEL).read_bytes())


def test_pieces_are_learned_from_the_training_part_alone():
    train, held_out = read_king_james()
    assert tokenizers.train_bpe(train.decode().splitlines()) != tokenizers.train_bpe(held_out.decode().splitlines())
    assert bundled_bpe().vocabulary == 1024


@pytest.mark.parametrize("tokenizer", [BYTES, bundled_bpe()], ids=lambda tokenizer: tokenizer.name)
def test_no_text_is_no_tokens(tokenizer):
    assert tokenizer.encode(b"").shape == (0,) and tokenizer.decode(np.empty(0, np.uint16)) == b""
