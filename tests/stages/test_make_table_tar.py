"""Tars that are cut, damaged, hostile or otherwise not what WebDataset writes."""

import io
import os
import random
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from painter_core.errors import Stop
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.rejects import rejects_path
from painter_core.stages.make_table.write import write_table
from tests.support.jobs import ROOT
from tests.support.sources import picture

SAMPLES = 6


def add(tar: tarfile.TarFile, name: str, data: bytes, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data))


def shard(path: Path, samples: int = SAMPLES, tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """A shard of so many samples, and its bytes."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        for n in range(samples):
            add(tar, f"{n:03d}.jpg", picture(n))
            add(tar, f"{n:03d}.txt", f"第{n}件".encode())
    return path.read_bytes()


def made(source: Path, **flags: object) -> dict[str, str]:
    out = source.parent / "t.parquet"
    config = MakeTableConfig(
        outputs=str(out), source=str(source), overwrite=True, **({"max_reject_fraction": 1.0} | flags)
    )
    write_table(config)
    return {row["idx"]: row["text"] for row in pq.read_table(out).to_pylist()}


def reasons(source: Path) -> list[tuple[str, str]]:
    """Reasons and details of the last table's rejects."""
    rejects = pq.read_table(rejects_path(str(source.parent / "t.parquet"))).to_pylist()
    return [(line["reason"], line["detail"]) for line in rejects]


WHOLE = {f"{n:03d}": f"第{n}件" for n in range(SAMPLES)}


def test_a_cut_tar_is_refused_wherever_it_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.tar"
    data = shard(path)
    with tarfile.open(path) as tar:
        members = [member.offset for member in tar.getmembers()]
    last = len(data.rstrip(b"\0"))  # of what the members hold
    for kept in range(1, last, 256):
        if kept not in members:
            path.write_bytes(data[:kept])
            with pytest.raises(ValueError, match=r"a\.tar: cut or damaged tar"):
                made(path)
    # between two members it is a shorter tar, which lacks its end
    for kept in members[2::2]:
        caplog.clear()
        path.write_bytes(data[:kept])
        assert len(made(path)) == members.index(kept) // 2
        assert "a.tar: ends without the mark of its end: was it cut" in caplog.text


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tars(tar_format: int, tmp_path: Path) -> None:
    long = "很长的名字" * 30
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tar_format) as tar:
        add(tar, "./", b"", type=tarfile.DIRTYPE)
        if tar_format != tarfile.USTAR_FORMAT:
            add(tar, f"{long}.png", picture(2))
            add(tar, f"{long}.txt", b"red")
        add(tar, "./a/b.c/1.seg.PNG", picture(2))
        add(tar, "./a/b.c/1.txt", "\ufeff红\n".encode())
        add(tar, "._1.jpg", b"of a Mac")
        add(tar, "./__MACOSX/2.jpg", b"of a Mac")
    with tarfile.open(path, "a", format=tar_format) as tar:
        add(tar, "2.avif", picture(2))
        add(tar, "2.json", '{"caption": "蓝", "sku": 77}'.encode())
    is_long = tar_format != tarfile.USTAR_FORMAT
    assert made(path) == {"2": "蓝"} | ({long: "red"} if is_long else {})
    assert made(path, second_sequence="seg.png") == {"a/b.c/1": "红"}
    assert made(path, idx_column="sku") == {"77": "蓝"}


def test_damage_is_refused_or_a_reject(tmp_path: Path) -> None:
    """Never a traceback, an endless loop, or rows that are gone without a word."""
    path = tmp_path / "a.tar"
    sources = [shard(path, tar_format=tar_format) for tar_format in (0, 1, 2)]
    counts = Counter[str]()
    for seed in range(200):
        rng = random.Random(seed)
        data = bytearray(sources[seed % 3])
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(0, len(data) - 10240, 512) + rng.randrange(512)
            data[at] = rng.choice((0, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(data)
        try:
            found = made(path, max_reject_fraction=1.0)
        except (ValueError, Stop):
            counts["refused"] += 1
            continue
        counts["read"] += 1
        rejects = Path(rejects_path(str(tmp_path / "t.parquet")))
        set_aside = len(pq.read_table(rejects)) if rejects.exists() else 0
        assert len(found) + set_aside >= SAMPLES  # a name that is changed makes two of one sample
    assert min(counts["read"], counts["refused"]) > 10


def test_headers_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = shard(path)

    def with_size(field: bytes) -> bytes:
        header = bytearray(data[:512])
        header[124:136] = field
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + data[512:]

    for size in (
        b"77777777777\0",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"\xff" + b"\xfe" * 11,
        b"zzzzzzzzzzz\0",
    ):
        path.write_bytes(with_size(size))
        with pytest.raises(ValueError, match=r"a\.tar: cut or damaged tar"):
            made(path)
    # an extended header that would be read into memory as a whole
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2**30
    path.write_bytes(long.tobuf(tarfile.GNU_FORMAT) + b"a" * 4096)
    with pytest.raises(ValueError, match=r"cut or damaged tar: a header of 1,073,741,824 bytes"):
        made(path)


def test_what_is_no_shard_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    data = shard(path)
    path.write_bytes(data + data)
    with pytest.raises(ValueError, match=r"is no member; several tars in one file have to be taken apart"):
        made(path)
    path.write_bytes(b"\x1f\x8b" + data)
    with pytest.raises(ValueError, match="compressed by gzip: unpack it"):
        made(path)
    path.write_bytes(b"PK\x03\x04" + data)
    with pytest.raises(ValueError, match="this is a zip archive"):
        made(path)
    path.write_bytes(bytes(10240))
    with pytest.raises(ValueError, match="no rows"):
        made(path)


def test_members_that_are_not_beside_each_other(tmp_path: Path) -> None:
    """A tar in the order of a directory: pictures first. Each half is set aside, with advice."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for suffix, data in (("jpg", picture(1)), ("txt", b"red")):
            for n in range(3):
                add(tar, f"{n}.{suffix}", data)
        add(tar, "x.jpg", picture(1))
        add(tar, "x.png", picture(2))
        add(tar, "x.txt", b"two pictures")
        add(tar, "y.jpg", picture(1))
        add(tar, "y.txt", b"whole")
        add(tar, "z.jpg", b"", type=tarfile.LNKTYPE, linkname="y.jpg")
        add(tar, "z.txt", b"a link")
    assert made(path) == {"y": "whole"}
    found = reasons(path)
    assert Counter(reason for reason, _ in found) == {"record_damaged": 8}
    assert "tar --sort=name" in found[0][1]
    assert "choose by --second-sequence" in found[6][1]
    assert "is a link to 'y.jpg'" in found[7][1]
    assert made(path, second_sequence="png")["x"] == "two pictures"


def test_names_and_captions_in_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", encoding="gb18030", format=tarfile.GNU_FORMAT) as tar:
        for n in range(3):
            add(tar, f"图{n}.jpg", picture(n))
            add(tar, f"图{n}.txt", "红色".encode("gb18030"))
    assert made(path, encoding="gb18030") == {f"图{n}": "红色" for n in range(3)}
    with pytest.raises(Stop, match="text_encoding"):
        made(path)


LARGE = """
import resource, sys
from painter_core.stages.make_table import write
from painter_core.stages.make_table.config import MakeTableConfig
write.ROW_GROUP_BYTES = 16 * 2**20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
config = MakeTableConfig(outputs=sys.argv[1], source=sys.argv[2], max_reject_fraction=0.5)
rows = write.write_table(config)
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_tar_is_streamed_and_huge_members_are_passed_over(tmp_path: Path) -> None:
    data = os.urandom(2**21)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "huge.png", bytes(2**26 + 1))
        add(tar, "huge.txt", "红".encode())
        for n in range(80):
            add(tar, f"{n}.png", data)
            add(tar, f"{n}.txt", "红".encode())
    command = [sys.executable, "-c", LARGE, str(tmp_path / "x.parquet"), str(tmp_path / "a.tar")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    rows, mib = map(int, done.stdout.split())
    assert rows == 80
    assert mib < 120
    (reject,) = pq.read_table(tmp_path / "_rejects-x.parquet").to_pylist()
    assert (reject["reason"], reject["idx"]) == ("cell_too_large", "huge")
