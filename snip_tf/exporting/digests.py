"""The SHA-256 of every exported file, beside it, in the form of `sha256sum`.

A SavedModel and a .keras file refuse most damage by themselves. A LiteRT file
has no checksum at all: with a byte changed, most load and give other numbers.
"""

import hashlib

NAME = "SHA256SUMS"


def write(directory):
    """Writes the digests of all files below a directory into it.

    `sha256sum --check SHA256SUMS` in there tells if all are as they were.
    """
    (directory / NAME).write_text(_digests(directory))


def check(directory):
    """Refuses a directory whose files are not those that `export` wrote.

    Args:
        directory: The path that was given to `export`.

    Raises:
        ValueError: If a file is missing, new, or has other bytes.
        FileNotFoundError: If the directory has no digests.
    """
    written = (directory / NAME).read_text(errors="replace")
    found = _digests(directory)
    if found != written:
        lines = set(found.splitlines()) ^ set(written.splitlines())
        names = sorted({line.partition("  ")[2] for line in lines})
        raise ValueError(
            f"The files of an export must be as {NAME} says. Received: "
            f"directory={str(directory)!r}, where these differ: "
            f"{', '.join(names)}"
        )


def _digests(directory):
    lines = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path != directory / NAME:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(directory).as_posix()
            lines.append(f"{digest}  {name}\n")
    return "".join(lines)
