"""Text that may come from anywhere, made safe for the place where it is shown."""

import re

# Control characters, and those that turn the direction of what follows them.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """The text with a mark for each character that would steer a terminal; lines and tabs stay.

    >>> printable("a\\x1b[2Jb")
    'a�[2Jb'
    """
    return _UNSEEN.sub("\ufffd", str(text))


def prose(text: object) -> str:
    """Plain text as Markdown in one line: nothing in it is markup but what stands between backticks.

    >>> print(prose("a < b * c, by `x < y`"))
    a &lt; b \\* c, by `x < y`
    """
    parts = re.split(r"(`[^`]*`)", " ".join(printable(text).split()))
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", "*": "\\*", "[": "\\[", "]": "\\]", "~": "\\~", "`": "\\`"})
    return "".join(part if i % 2 else part.translate(escape) for i, part in enumerate(parts))


def code(text: object) -> str:
    """A name as Markdown's code, in one line.

    >>> print(code("width"))
    `width`
    """
    return f"`{' '.join(printable(text).replace('`', 'ˋ').split())}`"
