"""What is in a file's place when a download went wrong: a Git LFS pointer, or a web server's page."""

import re
from pathlib import Path

LFS = b"version https://git-lfs.github.com/spec/"
PAGE = re.compile(rb"\s*(<!doctype|<html|<\?xml|<head|<body)", re.IGNORECASE)


def check_download(file: Path, name: str = "") -> None:
    """Raises a ValueError with the next step if a file is a pointer or a page instead of what it is named.

    Args:
        file: weights, an archive or a config; a file that is not there is passed over.
        name: what the message calls it, by default its path.
    """
    if not file.is_file():
        return
    with file.open("rb") as raw:
        head = raw.read(512)
    name = name or str(file)
    if head.startswith(LFS):
        size = re.search(rb"^size (\d+)", head, re.MULTILINE)
        of = f", of {int(size[1]):,} bytes," if size else ""
        raise ValueError(
            f"{name}: a Git LFS pointer; the file itself{of} was not downloaded. Run git lfs pull in its "
            "directory, or download the file by its link"
        )
    if PAGE.match(head):
        raise ValueError(
            f"{name}: a web page, not what its name says: the server answered with a login, an error or a "
            "preview. Download the file by its direct link, and compare its size with the one that is stated "
            "there"
        )
