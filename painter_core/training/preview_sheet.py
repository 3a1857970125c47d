"""Pictures that show how far a training is: laid out on one sheet, as PREVIEWS/step-00001000.png and in
TensorBoard."""

import math

import numpy as np

from painter_core.files.storage import filesystem, join, write_bytes
from painter_core.images.decode import encode_image
from painter_core.training.metrics import MetricsLog

PREVIEWS = "previews"  # folder of a training run


def laid_out(pictures: np.ndarray) -> np.ndarray:
    """uint8 (n, S, S, 3) -> one picture uint8 (H, W, 3), row by row, about as wide as high."""
    number, size = pictures.shape[:2]
    columns = math.ceil(math.sqrt(number))
    rows = -(-number // columns)
    sheet = np.zeros((rows * columns, size, size, 3), np.uint8)
    sheet[:number] = pictures
    lines = sheet.reshape(rows, columns, size, size, 3).transpose(0, 2, 1, 3, 4)  # (rows, S, columns, S, 3)
    return lines.reshape(rows * size, columns * size, 3)


def write_sheet(root: str, step: int, tag: str, sheet: np.ndarray, metrics: MetricsLog | None) -> None:
    """Writes the sheet of a step, whole or not at all.

    Args:
        root: directory of the run, a path or URL.
        step: updates done.
        tag: TensorBoard's name of it.
        sheet: uint8 (H, W, 3).
        metrics: of the worker that logs.
    """
    write_bytes(*filesystem(join(root, PREVIEWS, f"step-{step:08d}.png")), encode_image(sheet))
    if metrics:
        metrics.image(step, tag, sheet)
