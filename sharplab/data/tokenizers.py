"""Text as integers: one per byte, or one per piece of a byte-pair encoding (BPE)."""

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

BPE_VOCABULARY = 1024
CHUNK_CHARACTERS = 1 << 22  # encoded at a time, which bounds the memory
_WORD = re.compile(r" ?[^ \n]+|[ \n]")  # no piece reaches over the start of the next word


@dataclass(frozen=True)
class Tokenizer:
    """Text in UTF-8 ↔ tokens in [0, vocabulary), unsigned integers of shape (tokens,)."""

    name: str
    vocabulary: int
    window: int  # tokens to a training example
    encode: Callable[[bytes], np.ndarray]
    decode: Callable[[np.ndarray], bytes]


BYTES = Tokenizer(
    "bytes",
    256,
    128,
    lambda text: np.frombuffer(text, np.uint8),
    lambda tokens: np.asarray(tokens).astype(np.uint8).tobytes(),
)


def train_bpe(lines: Iterable[str]) -> bytes:
    """A sentencepiece model (Kudo, Richardson, arXiv:1808.06226) of 1,024 pieces; equal lines give equal bytes.

    Pieces stay within words, a space belonging to the word after it. What they do not cover is spelt in the 256 pieces
    for single bytes, so that every text can be encoded, and decoded again without loss; only U+2581, which is how
    sentencepiece writes a space, comes back as one.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=BPE_VOCABULARY,
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=["\n"],
        # The text as it is: no Unicode normalisation, no space added before it or removed within.
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        # A corpus is one stream of text, without marks at its ends.
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def bpe_tokenizer(model: bytes, source: str = "model") -> Tokenizer:
    """The tokenizer of a model that `train_bpe` made.

    Raises:
        ValueError: naming `source`, for anything else.
    """
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = processor.get_piece_size()
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"{source} is no model of sentencepiece; restore the original file.") from error
    if pieces != BPE_VOCABULARY:
        raise ValueError(f"{source} has {pieces:,} pieces where {BPE_VOCABULARY:,} belong; restore the original file.")

    def encode(text: bytes) -> np.ndarray:
        chunks = _chunks(text.decode())
        return np.concatenate([np.empty(0, np.uint16), *(_encode_words(processor, chunk) for chunk in chunks)])

    return Tokenizer(
        "bpe", BPE_VOCABULARY, 64, encode, lambda tokens: processor.decode(np.asarray(tokens).tolist()).encode()
    )


def _chunks(text: str) -> Iterable[str]:
    """The text in chunks of about `CHUNK_CHARACTERS`, each ending with its line."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + CHUNK_CHARACTERS) + 1 or len(text)
        yield text[start:end]
        start = end


def _encode_words(processor: Any, text: str) -> np.ndarray:
    """The pieces of `processor.encode(text)`, several times faster: every different word is encoded once."""
    rows: dict[str, int] = {}
    occurrences = np.array([rows.setdefault(word, len(rows)) for word in _WORD.findall(text)])
    spellings = processor.encode(list(rows))
    lengths = np.array([len(spelling) for spelling in spellings])
    pieces = np.concatenate(spellings).astype(np.uint16)
    starts = (np.cumsum(lengths) - lengths)[occurrences]
    counts = lengths[occurrences]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return pieces[np.repeat(starts, counts) + within]
