"""Model operator of an evaluation: the forms of a unit's pictures -> columns of its part, as bytes.

Always in float32, in micro-batches of one size, so that a row's numbers depend on nothing but its picture.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from painter_core.compute.devices import prepare_vqgan, worker_device
from painter_core.compute.memory import vqgan_most_rows
from painter_core.evaluation.batches import Batches
from painter_core.evaluation.features import ClipVectors, InceptionFeatures
from painter_core.evaluation.inception_input import SIDE, inception_input
from painter_core.evaluation.likelihood import bits_per_code, caption_nats
from painter_core.evaluation.reconstruction import psnr, ssim
from painter_core.files.faults import failpoint
from painter_core.files.storage import file_sha256
from painter_core.images.pixels import quantize_pixels, to_pixels
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.open import open_model
from painter_core.stages.evaluate.judging import (
    ClipJudge,
    InceptionJudge,
    Judging,
    LikelihoodJudge,
    ReconstructionJudge,
)
from painter_core.stages.pins import check_pins, clip_pins, model_pins
from painter_core.tables.unit_row import UnitRow, unpack
from painter_core.text.ids import text_ids
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files
from schemas import scores

Columns = dict[str, np.ndarray]


def likelihood_pins(model: ModelDirectory, metrics: tuple[str, ...]) -> dict[str, str]:
    """Sums of a model's GPT, tokenizer and VQGAN."""
    return model_pins(model, text_head="caption" in metrics) | {"vqgan_sha256": model.vqgan_sha256()}


def reconstruction_pins(vqgan: ModelDirectory, perceptual: str | None) -> dict[str, str]:
    """Sums of a VQGAN, and of the files of LPIPS."""
    files = perceptual_files(perceptual) if perceptual else []
    sums = {f"perceptual_{i}_sha256": file_sha256(file) for i, file in enumerate(files)}
    return {"vqgan_sha256": vqgan.vqgan_sha256()} | sums


@dataclass(kw_only=True)
class MeasurePictures:
    """Runs all models of a table's judging, one after the other."""

    judging: Judging
    micro_batch_size: int
    gpu: bool = False
    """Whether Ray gives the worker a GPU."""
    _measures: list[Any] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        device, rows, judging = worker_device(gpu=self.gpu), self.micro_batch_size, self.judging
        if judging.reconstruction:
            inception = judging.inception
            self._measures.append(_Reconstruction(judging.reconstruction, inception, device, rows))
        elif judging.inception:
            self._measures.append(_Inception(judging.inception, device, rows))
        if judging.clip:
            self._measures.append(_Clip(judging.clip, device, rows))
        if judging.likelihood:
            self._measures.append(_Likelihood(judging.likelihood, device, rows))

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        pictures = unpack(row.payload["pictures"])
        found: Columns = {}
        for measure in self._measures if len(pictures) else ():
            found |= measure(row.payload, pictures.column("text").to_pylist())
        made = {n: values.tobytes() for n, values in found.items()}
        missing = [
            name for name in self.judging.schema().names if name not in (*pictures.column_names, *made)
        ]
        failpoint("unit_computed", unit=row.unit)
        seconds = time.monotonic() - began
        return row.carrying(
            pictures=row.payload["pictures"], model_s=seconds, **made, **dict.fromkeys(missing, b"")
        )


class _Inception:
    def __init__(self, judge: InceptionJudge, device: torch.device, rows: int) -> None:
        self._judge = judge
        self._features = _features(judge, device, rows)

    def __call__(self, payload: dict[str, Any], captions: list[str]) -> Columns:
        shape = (len(captions), len(self._judge.blurs), 3, SIDE, SIDE)
        inputs = np.frombuffer(payload["inception"], np.float32).reshape(shape)
        return {
            scores.inception_column(blur): self._features(inputs[:, i])
            for i, blur in enumerate(self._judge.blurs)
        }


def _features(judge: InceptionJudge, device: torch.device, rows: int) -> InceptionFeatures:
    found = InceptionFeatures(judge.file, device=device, micro_batch_size=rows)
    pins = {"inception_sha256": judge.sha256}
    check_pins(judge.file, {"inception_sha256": file_sha256(Path(judge.file))}, pins)
    return found


class _Clip:
    def __init__(self, judge: ClipJudge, device: torch.device, rows: int) -> None:
        self._side = judge.image_size
        self._vectors = ClipVectors(judge.directory, device=device, micro_batch_size=rows)
        check_pins(judge.directory, clip_pins(judge.directory), judge.pins)

    def __call__(self, payload: dict[str, Any], captions: list[str]) -> Columns:
        shape = (len(captions), self._side, self._side, 3)
        pictures = np.frombuffer(payload["clip"], np.uint8).reshape(shape)
        return {
            scores.CLIP_IMAGE: self._vectors.images(pictures),
            scores.CLIP_TEXT: self._vectors.texts(captions),
        }


class _Likelihood:
    def __init__(self, judge: LikelihoodJudge, device: torch.device, rows: int) -> None:
        opened = open_model(judge.model)
        self._gpt = opened.load_gpt().to(device)
        self._tokenizer, self._side = opened.load_tokenizer(), judge.image_size
        vqgan = prepare_vqgan(opened.load_vqgan(), device, "fp32")
        check_pins(judge.model, likelihood_pins(opened, judge.metrics), judge.pins)
        self._metrics = judge.metrics
        most = vqgan_most_rows(vqgan.config, device.type)
        self._encode = Batches(lambda pictures: vqgan.encode(to_pixels(pictures)), rows, device, most)
        self._bits = Batches(lambda ids, codes: bits_per_code(self._gpt, ids, codes), rows, device)
        self._caption = Batches(lambda ids, codes: caption_nats(self._gpt, ids, codes), rows, device)

    def __call__(self, payload: dict[str, Any], captions: list[str]) -> Columns:
        config = self._gpt.config
        if "codes" in payload:
            codes = np.frombuffer(payload["codes"], "<u2").reshape(len(captions), -1).astype(np.int64)
        else:
            shape = (len(captions), self._side, self._side, 3)
            codes = self._encode(np.frombuffer(payload["vqgan"], np.uint8).reshape(shape))
        lengths = {"text_len": config.text_len, "codebook_size": config.codebook_size}
        ids = text_ids(self._tokenizer, captions, **lengths).ids
        found: Columns = {}
        if "likelihood" in self._metrics:
            found[scores.BITS] = self._bits(ids, codes).astype(np.float64)
        if "caption" in self._metrics:
            nats = self._caption(ids, codes)
            found |= {scores.CAPTION_NATS: nats[:, 0].copy(), scores.CAPTION_TOKENS: nats[:, 1].copy()}
        return found


class _Reconstruction:
    def __init__(
        self, judge: ReconstructionJudge, inception: InceptionJudge | None, device: torch.device, rows: int
    ) -> None:
        opened = open_model(judge.vqgan)
        vqgan = prepare_vqgan(opened.load_vqgan(), device, "fp32")
        check_pins(judge.vqgan, reconstruction_pins(opened, judge.perceptual), judge.pins)
        self._side, self._inception = judge.image_size, inception
        self._features = _features(inception, device, rows) if inception else None
        most = vqgan_most_rows(vqgan.config, device.type)
        self._lpips: Batches | None = None
        if judge.perceptual:
            distance = load_perceptual(perceptual_files(judge.perceptual)).to(device)
            self._lpips = Batches(lambda x, y: distance(to_pixels(x), to_pixels(y)), rows, device, most)

        def give_back(pictures: Tensor) -> Tensor:
            return quantize_pixels(vqgan.decode(vqgan.encode(to_pixels(pictures))))

        self._give_back = Batches(give_back, rows, device, most)

    def __call__(self, payload: dict[str, Any], captions: list[str]) -> Columns:
        shape = (len(captions), self._side, self._side, 3)
        pictures = np.frombuffer(payload["vqgan"], np.uint8).reshape(shape)
        rec = self._give_back(pictures)
        found = {scores.PSNR: psnr(pictures, rec), scores.SSIM: ssim(pictures, rec)}
        if self._lpips is not None:
            found[scores.LPIPS] = self._lpips(rec, pictures).astype(np.float64)
        if self._features is not None and self._inception is not None:
            for name, images in ((scores.inception_column(0), pictures), (scores.INCEPTION_REC, rec)):
                inputs = [inception_input(image, self._inception.resize) for image in images]
                found[name] = self._features(np.stack(inputs))
        return found
