"""Paths and URLs; a file is whole or absent."""

import os
from pathlib import Path

import pytest

from painter_core.files.storage import filesystem, is_local, join, read_json, redact, write_bytes, write_json


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:se/cret@bucket/x.tsv", "s3://bucket/x.tsv"),
        ("s3://user@bucket/x", "s3://bucket/x"),
        ("s3://bucket/x?versionId=1&sig=a/b", "s3://bucket/x"),
        ("s3://bucket/what?.tsv", "s3://bucket/what?.tsv"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("/data/a?b=c@d", "/data/a?b=c@d"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_local_urls() -> None:
    assert is_local("/a://b")
    assert is_local("FILE:///a")
    assert not is_local("s3://a")
    assert filesystem("file:///tmp/a b")[1] == "/tmp/a b"


def test_written_files_are_whole_or_absent(tmp_path: Path) -> None:
    fs, path = filesystem(str(tmp_path / "new/dir/a.json"))
    write_json(fs, path, {"名": "\udcff", "b": 1})
    assert read_json(fs, path) == {"名": "\udcff", "b": 1}
    with pytest.raises(TypeError):
        write_bytes(fs, path, "no bytes")  # type: ignore[arg-type]
    assert os.listdir(tmp_path / "new/dir") == ["a.json"]
    assert read_json(fs, path)["b"] == 1


def test_join() -> None:
    assert join("/a/", "b", "c") == "/a/b/c"
