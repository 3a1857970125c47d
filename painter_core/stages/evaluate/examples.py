"""The best and the worst pictures of a table, fetched from its input again."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from painter_core.easynlp.output import cells_of_output
from painter_core.evaluation.picture_forms import PictureForms
from painter_core.evaluation.report.page import Example, Examples
from painter_core.images.cells import image_of_cell
from painter_core.images.decode import encode_image
from painter_core.images.pixels import to_pixels, to_uint8
from painter_core.model_files.open import open_model
from painter_core.stages.evaluate.extract import Extracted
from painter_core.stages.evaluate.judging import Judging
from painter_core.stages.evaluate.numbers import NUMBERS
from painter_core.stages.evaluate.reduce import Reduced
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import Unit

SHOWN = 6  # pictures at each end


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A table with all that is known of it."""

    found: Extracted
    reduced: Reduced
    judging: Judging
    reader: UnitReader
    units: list[Unit]


def examples_of(table: Judged) -> list[Examples]:
    """The best and the worst by every number that has a good end."""
    groups = []
    for number in NUMBERS:
        values = table.reduced.numbers.get(number.name)
        if number.high_is_good is None or values is None:
            continue
        order = np.argsort(-values if number.high_is_good else values, kind="stable")
        ends = {"Best": order[:SHOWN], "Worst": order[max(SHOWN, len(order) - SHOWN) :][::-1]}
        for end, chosen in ends.items():
            if len(chosen):
                groups.append((f"{end} by {number.title}: {table.reduced.score.name}", chosen.tolist()))
    pictures = _pictures(table, sorted({i for _, chosen in groups for i in chosen}))
    return [
        Examples(title=title, examples=tuple(_example(table, i, pictures[i]) for i in chosen))
        for title, chosen in groups
    ]


def _example(table: Judged, i: int, images: tuple[bytes, ...]) -> Example:
    row = table.found.plain.slice(i, 1).to_pylist()[0]
    values = []
    for number in NUMBERS:
        if number.name in table.reduced.numbers:
            value = float(table.reduced.numbers[number.name][i])
            values.append((number.title, "-" if np.isnan(value) else number.form.format(value)))
    labels = ("original", "reconstruction") if table.judging.reconstruction else ()
    return Example(idx=row["idx"], caption=row["text"], images=images, labels=labels, values=tuple(values))


def _pictures(table: Judged, chosen: list[int]) -> dict[int, tuple[bytes, ...]]:
    """Encoded pictures of some rows, read from the input again."""
    show = _shower(table.judging)
    found: dict[int, tuple[bytes, ...]] = {}
    for part in sorted({int(table.found.part[i]) for i in chosen}):
        unit = table.units[part]
        cells = {
            line["row"]: line["image"]
            for read in table.reader.read([unit])
            for line in read.table.select(["row", "image"]).to_pylist()
        }
        for i in chosen:
            if table.found.part[i] == part:
                row, sample = (table.found.plain.column(name)[i].as_py() for name in ("row", "sample"))
                found[i] = show(cells[row], sample)
    return found


def _shower(judging: Judging) -> Callable[[str | bytes | None, int], tuple[bytes, ...]]:
    """What makes the pictures to show from a cell and the number of the picture in it."""

    def picture(cell: str | bytes | None, sample: int) -> bytes:
        return image_of_cell(cells_of_output(cell)[sample])

    if (rec := judging.reconstruction) is not None:
        forms, vqgan = PictureForms(vqgan_px=rec.image_size), open_model(rec.vqgan).load_vqgan()

        @torch.inference_mode()
        def pair(cell: str | bytes | None, sample: int) -> tuple[bytes, ...]:
            original = forms.record(picture(cell, sample))["vqgan"]
            given_back = to_uint8(vqgan.decode(vqgan.encode(to_pixels(original[None]))))[0]
            return encode_image(original), encode_image(given_back)

        return pair
    if judging.likelihood is not None and judging.is_codes:
        decoder = open_model(judging.likelihood.model).load_vqgan()

        @torch.inference_mode()
        def decoded(cell: str | bytes | None, sample: int) -> tuple[bytes, ...]:
            assert isinstance(cell, bytes)
            codes = torch.from_numpy(np.frombuffer(cell, "<u2").astype(np.int64))[None]
            return (encode_image(to_uint8(decoder.decode(codes))[0]),)

        return decoded
    return lambda cell, sample: (picture(cell, sample),)
