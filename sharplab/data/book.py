"""The bundled King James Bible: 4.1 MB of English prose of 1611, and a byte-pair tokenizer trained on it.

`python -m sharplab.data.book` trains the tokenizer anew; it comes out byte for byte as it is bundled.
"""

import lzma
from functools import cache
from pathlib import Path

from sharplab.data.checksums import checked_files
from sharplab.data.dataset import Dataset
from sharplab.data.next_token import next_token_dataset
from sharplab.data.tokenizers import BYTES, Tokenizer, bpe_tokenizer, train_bpe

FOLDER = Path(__file__).parent / "king_james"
TEXT = "king-james.txt.xz"
MODEL = "bpe-1024.model"


def king_james_bytes() -> Dataset:
    """Windows of 128 bytes of the King James Bible and the byte after each; vocabulary 256."""
    return _dataset("king-james-bytes", BYTES, "")


def king_james_bpe() -> Dataset:
    """Windows of 64 pieces of the King James Bible, about 190 bytes, and the piece after each; vocabulary 1,024."""
    return _dataset("king-james-bpe", bundled_bpe(), bpe_definition())


def read_king_james(folder: Path = FOLDER) -> tuple[bytes, bytes]:
    """The text, a verse to a line: its first 90 % of whole lines to train, the rest held out.

    Raises:
        ValueError: when a file is missing, damaged or not the one in SHA256SUMS.
    """
    checked_files(folder, TEXT)
    text = lzma.decompress((folder / TEXT).read_bytes())
    cut = text.index(b"\n", len(text) * 9 // 10) + 1
    return text[:cut], text[cut:]


@cache
def bundled_bpe() -> Tokenizer:
    """The bundled tokenizer of 1,024 pieces, trained on the training part of the King James Bible alone."""
    checked_files(FOLDER, MODEL)
    return bpe_tokenizer((FOLDER / MODEL).read_bytes(), str(FOLDER / MODEL))


def bpe_definition() -> str:
    """The text that determines the bundled tokenizer, for checksums: its file and the digest of that."""
    return f"{MODEL} {checked_files(FOLDER, MODEL)[MODEL]}"


def train_bundled_bpe() -> bytes:
    """The model file of the bundled tokenizer, made from the bundled text."""
    train, _ = read_king_james()
    return train_bpe(train.decode().splitlines())


def _dataset(name: str, tokenizer: Tokenizer, tokenizer_definition: str) -> Dataset:
    train, held_out = read_king_james()
    origin = f"{TEXT} {checked_files(FOLDER, TEXT)[TEXT]}; cut after 9/10; {tokenizer_definition}"
    return next_token_dataset(name, origin, train, held_out, tokenizer)


if __name__ == "__main__":
    (FOLDER / MODEL).write_bytes(train_bundled_bpe())
