"""pairs -> codes: pictures are decoded on CPUs, the VQGAN runs in a pool of workers.

What jobs/precompute_codes.py runs, and jobs/train.py if it is given pairs tables. A unit's row gains
`pixels`, uint8 (N, S, S, 3) as bytes (decode.py), and then `codes`, uint16 (N, image_len) as bytes.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from painter_core.compute.devices import model_settings, prepare_vqgan, worker_device
from painter_core.compute.finite import codes_on_host
from painter_core.compute.memory import vqgan_most_rows, vqgan_row_bytes
from painter_core.compute.pieces import Pieces
from painter_core.files.faults import failpoint
from painter_core.files.storage import write_bytes
from painter_core.images.decode import Alpha, Resize
from painter_core.images.isolate import CellDecoder
from painter_core.images.pixels import to_pixels
from painter_core.model_files.directory import ModelDirectory
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.runs.run_config import RunConfig
from painter_core.runs.table_run import Job
from painter_core.stages.decode_pictures import DecodePictures
from painter_core.stages.parts import codes_table
from painter_core.tables.columns import Columns, parse_input_schema
from painter_core.tables.part_writer import PartWriter
from painter_core.tables.run_directory import RunDirectory

CAPTION_BYTES = 100  # of a row's idx and caption, for the estimate of what will be written


@dataclass(frozen=True, kw_only=True)
class PrecomputeConfig:
    """pairs table (idx, text, picture) -> codes table (idx, text, codes)."""

    run: RunConfig
    input_schema: str = "idx:str:1,text:str:1,imgbase64:str:1"
    """Columns of a TSV, in order: name:type:length."""
    second_sequence: str = "imgbase64"
    """Column of the picture."""
    vqgan: str = "bundled"
    """VQGAN: a model directory, or `bundled`."""
    image_size: int | None = None
    """Side of the pictures in pixels; the VQGAN's own by default, another one is refused."""
    resize: Resize = "bilinear"
    """bilinear: EasyNLP's transform; antialias: bicubic with antialiasing."""
    alpha: Alpha = "white"
    """What lies under transparent pixels: white, or `drop` for the hidden colour, as in EasyNLP."""
    expect: str = ""
    """Sizes that the VQGAN must have, `image_size=256,codebook_size=16384`; changes nothing."""

    def columns(self) -> Columns:
        """What is read."""
        names = parse_input_schema(self.input_schema)
        return Columns(
            schema=names,
            text=self.run.first_sequence,
            image=self.second_sequence,
            skip_first_line=self.run.skip_first_line,
        )

    def decoder(self, image_size: int) -> DecodePictures:
        """The operator that decodes, for pictures of `image_size` pixels a side."""
        return DecodePictures(
            decode=CellDecoder(image_size=image_size, resize=self.resize, alpha=self.alpha),
            column=self.second_sequence,
            keep_rejected=self.run.keep_rejected,
        )


def identity(config: PrecomputeConfig, model: ModelDirectory) -> dict[str, Any]:
    """What makes the codes; ValueError if the VQGAN does not fit the flags."""
    if model.vqgan is None:
        raise ValueError(f"--vqgan {config.vqgan}: this directory holds no VQGAN")
    size = model.vqgan.image_size
    if config.image_size not in (None, size):
        raise ValueError(f"--image-size: got {config.image_size}, but the VQGAN {config.vqgan} is for {size}")
    check_expected(config.expect, vqgan=model.vqgan, gpt=None)
    model.check_weights()
    preprocessing = {"image_size": size, "resize": config.resize, "alpha": config.alpha, "exif": "ignore"}
    return {"vqgan_sha256": model.vqgan_sha256(), "preprocessing": preprocessing}


def keep_vqgan(model: ModelDirectory, directory: RunDirectory) -> None:
    """Copies the VQGAN into the table, _run/vqgan/: codes are of no use without it, and training needs it."""
    for name in ("config.json", "vqgan.safetensors"):
        fs, path = directory.path("_run", "vqgan", name)
        if not fs.exists(path):
            data = (model.path / name).read_bytes()
            if name == "config.json":
                data = json.dumps(
                    {k: v for k, v in json.loads(data).items() if k in ("format", "vqgan")}
                ).encode()
            write_bytes(fs, path, data)


@dataclass(kw_only=True)
class EncodePictures:
    """Model operator: pixels -> codes, in micro-batches of one size."""

    vqgan: str
    precision: str
    micro_batch_size: int
    compiled: bool = False
    _device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self._device = worker_device()
        self._copies = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        model = open_model(self.vqgan).load_vqgan()
        self._model = prepare_vqgan(model, self._device, self.precision, compiled=self.compiled)
        most = vqgan_most_rows(model.config, self._device.type)
        self._pieces = Pieces(self.micro_batch_size, most)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        size = self._model.config.image_size
        pixels = np.frombuffer(row.pop("pixels"), np.uint8).reshape(-1, size, size, 3)
        row["codes"] = self.encode(pixels).tobytes()
        row["image_len"] = self._model.config.image_len
        failpoint("unit_computed", unit=int(row["unit"]))
        row["model_s"] = time.monotonic() - began
        return row

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3) -> uint16 (N, image_len).

        Only the end waits for a GPU: while it computes a micro-batch, the next one is copied to it.
        """
        step = self.micro_batch_size
        codes = [torch.empty((0, self._model.config.image_len), dtype=torch.int64, device=self._device)]
        for start in range(0, len(pixels), step):
            batch = self._send(pixels[start : start + step])
            codes.append(self._pieces.run(lambda piece: self._model.encode(to_pixels(piece)), batch))
        return codes_on_host(torch.cat(codes)[: len(pixels)], self.vqgan)

    def _send(self, batch: np.ndarray) -> Tensor:
        """A micro-batch on the device; filled up, since another shape could round differently."""
        shape = (self.micro_batch_size, *batch.shape[1:])
        full = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._copies is not None)
        full.numpy()[: len(batch)] = batch
        if self._copies is None:
            return full
        with torch.cuda.stream(self._copies):
            sent = full.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copies)
        sent.record_stream(computing)
        return sent


def precompute(job: Job, config: PrecomputeConfig) -> None:
    """Makes or completes a codes table.

    Args:
        job: started, in its context.
        config: whose `run` and columns the job has.

    Raises:
        Complete: the table is there already.
    """
    model = open_model(config.vqgan)
    settings = model_settings(config.run.precision, config.run.compile, gpu=job.resources.uses_gpu)
    made_by = identity(config, model)
    assert model.vqgan is not None
    job.memory_per_row = vqgan_row_bytes(model.vqgan, settings["precision"])
    row_bytes = 2 * model.vqgan.image_len + CAPTION_BYTES
    reads = (name_for_workers(config.vqgan),)
    job.make_plan(made_by, settings, row_bytes=row_bytes, reads=reads)
    decode = config.decoder(model.vqgan.image_size)
    encode: dict[str, Any] = {
        "vqgan": name_for_workers(config.vqgan),
        "precision": settings["precision"],
        "compiled": settings["compile"],
        "micro_batch_size": job.micro_batch_size(),
    }
    if config.run.dry_run:
        # in a child: a picture that kills its decoder must not kill the driver
        in_child = dataclasses.replace(decode, in_child=True)
        job.sample(in_child, EncodePictures(**encode), build=codes_table)
    keep_vqgan(model, job.directory)
    workers: Any = EncodePictures  # Ray's annotation of map() knows functions only
    job.execute(
        lambda: (
            job.read()
            .map(decode.__call__, **job.resources.tasks(1.0))
            .map(workers, fn_constructor_kwargs=encode, **job.resources.actors(len(job.pending)))
            .map(PartWriter(directory=job.directory, build=codes_table).__call__, **job.resources.tasks(0.5))
        ),
        extra={"table": "codes", "image_len": model.vqgan.image_len},
    )
