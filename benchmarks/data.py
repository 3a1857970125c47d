"""What surrounds the networks: pictures, captions, tables."""

import base64
import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import easynlp
from benchmarks.limits import Peaks
from benchmarks.measure import Row, Setup, Work, in_turns, rows
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import decode_image, encode_image
from painter_core.images.pixels import to_pixels
from painter_core.sample.pictures import sample_row
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import builtin_tokenizer

SIZE = 256


def photo(seed: int, size: int = SIZE) -> np.ndarray:
    """uint8 (size, size, 3) that compresses about as a photograph does: noise of falling strength."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size, 3))
    for octave in range(7):
        side = min(size, 4 << octave)
        grid = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        total += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), float) / 2**octave
    return (total / total.max() * 255).astype(np.uint8)


def picture_files(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Encoding of pictures that were painted; the baseline is Pillow's default PNG, as EasyNLP writes it."""
    count = 2 if setup.short else 16
    photos = [photo(i) for i in range(count)]

    def plain() -> None:
        for picture in photos:
            Image.fromarray(picture).save(io.BytesIO(), "PNG")

    variants: dict[str, Work] = {"PNG, EasyNLP": plain}
    for kind in ("png", "webp", "jpeg"):
        variants[f"{kind}"] = lambda kind=kind: [encode_image(p, kind) for p in photos]
    yield from rows("picture encoding, 256 x 256", in_turns(variants, setup), items=count, unit="picture")


def cells(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """A table's cell (base64 of a JPEG) to pixels."""
    count = 2 if setup.short else 16
    found: dict[str, list[str]] = {}
    for name, size in (("256 x 256", 256), ("500 x 500", 500)):
        images = (encode_image(photo(i, size), "jpeg") for i in range(count))
        found[name] = [base64.b64encode(image).decode() for image in images]
    notes: Counter[str] = Counter()
    for name, texts in found.items():
        work: Work = lambda texts=texts: [decode_image(image_of_cell(t, notes), SIZE) for t in texts]  # noqa: E731
        yield from rows(
            f"cell to pixels, JPEG {name}", in_turns({"ours": work}, setup), items=count, unit="picture"
        )


def captions(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Captions to text ids."""
    count = 32 if setup.short else 4096
    texts = [sample_row(1, i % 64, split="train").text for i in range(count)]
    tokenizer = builtin_tokenizer()
    variants: dict[str, Work] = {
        "one by one": lambda: [text_ids(tokenizer, [t], text_len=32, codebook_size=16384) for t in texts],
        "ours": lambda: text_ids(tokenizer, texts, text_len=32, codebook_size=16384),
    }
    yield from rows("tokenizing", in_turns(variants, setup), items=count, unit="caption")


def collation(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """16 decoded pictures to a batch of pixels."""
    count = 2 if setup.short else 16
    photos = [photo(i) for i in range(count)]
    scaled = [(p / 127.5 - 1.0).astype(np.float32) for p in photos]
    variants: dict[str, Work] = {
        "EasyNLP": lambda: easynlp.collate(scaled),
        "ours": lambda: to_pixels(np.stack(photos)),
    }
    yield from rows("collation, batch 16", in_turns(variants, setup, most=3), items=count, unit="picture")


def reading(setup: Setup, peaks: Peaks) -> Iterator[Row]:
    """Lines of a TSV of pictures: Python's own loop, then planning and reading of all units."""
    count = 16 if setup.short else 4000
    schema = ("idx", "text", "imgbase64")
    columns = Columns(schema=schema, text="text", image="imgbase64")
    cell = base64.b64encode(encode_image(photo(0), "jpeg")).decode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.tsv"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"r{i}\t一件商品{i}\t{cell}\n" for i in range(count))

        def plain() -> None:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    dict(zip(schema, line.rstrip("\n").split("\t"), strict=True))

        def ours() -> None:
            files = find_files(str(path))
            reader = UnitReader(files=files, columns=columns, stage="precompute", keep_rejected=False)
            for _ in reader.read(plan_units(files, columns, micro_batch_size=16, limit=None)):
                pass

        timings = in_turns({"plain Python loop": plain, "ours, planned and checked": ours}, setup)
        yield from rows("TSV reading", timings, items=path.stat().st_size / 2**20, unit="MiB")
