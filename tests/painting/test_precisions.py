"""A painter's networks compute in its precision whatever a judge or an upscaler has set since it was made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from painter_core.model_files.open import open_model
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.painting.captioner import Captioner
from painter_core.painting.painter import Painter, Request
from painter_core.painting.picture_decoder import PictureDecoder
from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.starting import start_codes
from tests.support.captioning import write_captioner
from tests.support.precision import products_after

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
OTHERS = {"tf32": "fp32", "fp32": "tf32"}
ALLOWED = {"tf32": "high", "fp32": "highest"}


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
def test_a_decoder_keeps_its_precision(model: str, precision: str) -> None:
    decoder = PictureDecoder(open_model(model), device=CPU, precision=precision, micro_batch_size=1)
    with products_after(OTHERS[precision]) as found:
        decoder.whole(np.zeros((1, decoder.vqgan.config.image_len), np.int64))
    assert found == {ALLOWED[precision]}


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
def test_a_painter_keeps_its_precision(model: str, precision: str) -> None:
    painter = Painter(
        open_model(model), device=CPU, precision=precision, sampling=SamplingConfig(top_k=5), seed=1,
        micro_batch_size=1,
    )  # fmt: skip
    side = painter.vqgan.config.image_size
    with products_after(OTHERS[precision]) as found:
        start_codes(painter, np.zeros((1, side, side, 3), np.uint8), 1)
    assert found == {ALLOWED[precision]}
    with products_after(OTHERS[precision]) as found:
        list(painter.paint([Request(idx="0", text="丁")]))
    assert found == {ALLOWED[precision]}


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
def test_a_captioner_keeps_its_precision(tmp_path: Path, precision: str) -> None:
    captioner = Captioner(
        open_model(str(write_captioner(tmp_path / "model"))), device=CPU, precision=precision,
        sampling=CaptionSampling(), seed=1, micro_batch_size=1,
    )  # fmt: skip
    side = captioner.vqgan.config.image_size
    with products_after(OTHERS[precision]) as found:
        codes = captioner.encode(np.zeros((1, side, side, 3), np.uint8))
    assert found == {ALLOWED[precision]}
    with products_after(OTHERS[precision]) as found:
        captioner.write(codes, ["0"])
    assert found == {ALLOWED[precision]}
