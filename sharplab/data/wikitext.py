"""WikiText-2 and WikiText-103, raw (Merity, Xiong, Bradbury, Socher, arXiv:1609.07843; CC BY-SA 3.0), downloaded.

The archives' first home is gone; the addresses are an author's copy and, pinned to a revision, one that others rely on.
The digests are those recorded for the first home. The tests read small archives of the same format.
"""

from sharplab.data.archives import open_zip, read_member
from sharplab.data.book import bpe_definition, bundled_bpe
from sharplab.data.dataset import Dataset
from sharplab.data.downloads import Source, fetch
from sharplab.data.next_token import next_token_dataset
from sharplab.data.tokenizers import BYTES

AUTHORS = "https://wikitext.smerity.com"
MIRROR = "https://huggingface.co/datasets"
WIKITEXT_2 = Source(
    "wikitext-2/wikitext-2-raw-v1.zip",
    (
        f"{AUTHORS}/wikitext-2-raw-v1.zip",
        f"{MIRROR}/ggml-org/ci/resolve/927b3642933080f1b0e811e2f916e14c292992f9/wikitext-2-raw-v1.zip",
    ),
    "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
    4_721_645,
)
WIKITEXT_103 = Source(
    "wikitext-103/wikitext-103-raw-v1.zip",
    (
        f"{AUTHORS}/wikitext-103-raw-v1.zip",
        f"{MIRROR}/mattdangerw/wikitext-103-raw/resolve/"
        "3555105b17ae31cc619a136fac72dbe2865c3738/wikitext-103-raw-v1.zip",
    ),
    "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
    191_984_949,
)


def wikitext_2(tokenizer: str = "bytes", source: Source = WIKITEXT_2) -> Dataset:
    """WikiText-2, 10.9 MB of training text: its training part, and windows of its validation part.

    By "bytes" in windows of 128 and a vocabulary of 256, or by the bundled "bpe" in windows of 64 of 1,024 pieces.
    """
    return _wikitext("wikitext-2", tokenizer, source)


def wikitext_103(tokenizer: str = "bytes", source: Source = WIKITEXT_103) -> Dataset:
    """WikiText-103, 540 MB of training text, prepared as `wikitext_2`: by bytes its arrays take 4.3 GB."""
    return _wikitext("wikitext-103", tokenizer, source)


def _wikitext(name: str, tokenizer: str, source: Source) -> Dataset:
    path = fetch(source)
    with open_zip(path) as archive:
        train, held_out = (read_member(archive, f"{name}-raw/wiki.{part}.raw") for part in ("train", "valid"))
    origin = f"{path.name} {source.sha256}; wiki.train.raw, wiki.valid.raw"
    if tokenizer == "bytes":
        return next_token_dataset(name, origin, train, held_out, BYTES)
    return next_token_dataset(f"{name}-bpe", f"{origin}; {bpe_definition()}", train, held_out, bundled_bpe())
