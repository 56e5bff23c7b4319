"""What happens to files, for every test that damages some: kinds of damage, and strategies that draw it."""

import io
import zipfile

from hypothesis import strategies as st
from numpy.lib import format as npy


def cut(content: bytes, place: float) -> bytes:
    """What stands before a place in [0, 1) of the content."""
    return content[: int(place * len(content))]


def flipped(content: bytes, place: float, bit: int = 0) -> bytes:
    """With one bit altered."""
    at = int(place * len(content))
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :] if content else b""


def emptied(content: bytes, place: float) -> bytes:
    """Of no bytes."""
    return b""


DAMAGES = {"cut": cut, "altered": flipped, "emptied": emptied}
PLACES = st.floats(0, 1, exclude_max=True)


@st.composite
def alterations(draw):
    """A function of the bytes of a file: cut, flipped, or some of them replaced, inserted, repeated, all replaced."""
    kind = draw(st.sampled_from(["cut", "flip", "replace", "insert", "repeat", "grow", "whole"]))
    place, bit, other = draw(PLACES), draw(st.integers(0, 7)), draw(st.binary(min_size=1, max_size=12))

    def alter(content: bytes) -> bytes:
        at = int(place * len(content))
        before, after = content[:at], content[at:]
        return {
            "cut": before,
            "flip": flipped(content, place, bit),
            "replace": before + other + after[len(other) :],
            "insert": before + other + after,
            "repeat": before + after * 2,
            "grow": before + b"\xff" * 8 + after[8:],  # a size, where one stands there
            "whole": other,
        }[kind]

    alter.__qualname__ = f"{kind} at {place}"
    return alter


SIZES = st.integers(-2, 9) | st.sampled_from([2**31, 2**40, 2**63, 2**64, 10**30])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(0, 3) | st.text(max_size=2), max_size=3)
    | st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), max_size=2)
)


@st.composite
def npz_of_any_headers(draw):
    """An npz archive, right in its sums, of arrays whose headers say anything."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in draw(
            st.lists(st.sampled_from(["0.npy", "leaf_0.npy", "manifest.npy", "rows.npy", "0"]), max_size=3, unique=True)
        ):
            kind = draw(st.sampled_from(["<f8", "|O", "<U4", "|V2", "|S1", "f", "", 5, [("a", "<f4")]]))
            shape = draw(st.lists(SIZES, max_size=3).map(tuple) | SIZES)
            says = {"descr": kind, "fortran_order": draw(st.booleans()), "shape": shape}
            text = draw(st.just(repr(says)) | st.text(max_size=20) | st.just("(" * 300))
            header = (text + "\n").encode("utf-8", "replace")
            version = draw(st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]))
            length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
            content = npy.MAGIC_PREFIX + bytes(version) + length + header + draw(st.binary(max_size=40))
            archive.writestr(name, content)
    return buffer.getvalue()


@st.composite
def idx_of_any_header(draw):
    """An idx file whose header claims any sizes, some with the bytes that they ask for."""
    sizes = draw(st.lists(st.integers(0, 3) | st.sampled_from([2**31, 2**32 - 1]), max_size=4) | st.just([1] * 80))
    body = draw(st.binary(max_size=9))
    return bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes) + body


@st.composite
def rows_of_anything(draw):
    """Rows of a sweep's table with the columns of one, and of an export of W&B, that hold anything."""
    names = draw(st.lists(st.sampled_from(COLUMNS) | st.text(max_size=4), min_size=1, max_size=5, unique=True))
    rate = st.floats(0.1, 1.0) | VALUES
    row = st.fixed_dictionaries(
        {"learning_rate": rate} if draw(st.booleans()) else {}, optional=dict.fromkeys(names, VALUES)
    )
    return draw(st.lists(row, max_size=4))


COLUMNS = ("width", "seed", "eval_loss", "diverged", "State", "config", "config.lr", "summary.loss", "depth")
