"""What a row must hold besides a caption that the model sees."""

from typing import Any

import numpy as np

from painter_core.errors import Reject
from painter_core.models.vqgan import VQGANConfig
from painter_core.painting.given_codes import codes_problem
from painter_core.stages.generate.config import GenerateConfig
from painter_core.tables.row_checks import check_tsv_text


def check_row(config: GenerateConfig, line: dict[str, Any], vqgan: VQGANConfig) -> None:
    """Raises Reject for text that the output cannot hold, and for codes that the VQGAN does not read."""
    if config.table.outputs.endswith(".tsv"):
        written = () if config.easynlp_format else ("text",)  # else without white space
        for name in (*written, *config.extra):
            check_tsv_text(line[name], config.input.first_sequence if name == "text" else name)
    if config.start.init_codes is not None:
        codes, least = np.frombuffer(line["image"], "<u2"), config.start.num_rows(vqgan) * vqgan.grid_size
        if problem := codes_problem(codes, vqgan, least=least):
            raise Reject("codes_invalid", problem, config.start.init_codes)
