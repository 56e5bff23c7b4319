"""SHA-256 of files, and checks of them."""

import hashlib
from pathlib import Path

REINSTALL = "restore it from a fresh checkout or a reinstall of sharplab"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
    """File name → SHA-256 in hex, from `folder`/SHA256SUMS as `sha256sum` writes it."""
    path = folder / "SHA256SUMS"
    if not path.is_file():
        raise ValueError(f"{path} is missing, so the data cannot be checked; restore the original folder.")
    try:
        rows = (line.split() for line in path.read_text().splitlines() if line.strip())
        return {name.removeprefix("*"): digest for digest, name in rows}
    except ValueError as error:
        raise ValueError(f"{path} has lines that are no digest and name; restore the original file.") from error


def verify_checksum(path: Path, expected: str, remedy: str = REINSTALL) -> None:
    """Check that the SHA-256 of a file is `expected`.

    Raises:
        ValueError: where it is not, or there is no file; the sentence ends in `remedy`.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}.")
    actual = sha256_of(path)
    if actual != expected:
        raise ValueError(
            f"{path} has SHA-256 {actual}, expected {expected}: the file is damaged or was replaced; {remedy}."
        )


def checked_files(folder: Path, *names: str) -> dict[str, str]:
    """File name → SHA-256 of the bundled files `names`, each of which is what `folder`/SHA256SUMS says.

    Raises:
        ValueError: when one is missing, damaged or not listed.
    """
    sums = read_checksums(folder)
    for name in names:
        if name not in sums:
            raise ValueError(f"{folder / 'SHA256SUMS'} has no line for {name}; restore the original file.")
        verify_checksum(folder / name, sums[name])
    return {name: sums[name] for name in names}
