"""pairs -> codes: pictures are decoded on CPUs, the VQGAN runs in a pool of workers.

What jobs/precompute_codes.py runs, and jobs/train.py if it is given pairs tables. A unit's payload is first
`pixels`, uint8 (N, S, S, 3) as bytes (decode_pictures.py), and then `codes`, uint16 (N, image_len) as bytes;
with --variants V also `views`, uint16 (N, (V - 1) image_len).
"""

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
from painter_core.flag_checks import check_range, check_seed, refuse_unused
from painter_core.images.decode import Alpha, Resize
from painter_core.images.isolate import CellDecoder
from painter_core.images.pixels import to_pixels
from painter_core.model_files.directory import ModelDirectory, weights_bytes
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.vqgan import VQGAN
from painter_core.runs.cluster import Cluster, start_ray
from painter_core.runs.flags import ModelFlags, PairFlags, TableFlags
from painter_core.runs.gpus import find_gpus
from painter_core.runs.next_step import next_step
from painter_core.runs.run import Run
from painter_core.runs.steps import Actors, Parts, Tasks
from painter_core.runs.table_run import TableJob, TableRun
from painter_core.stages.codes_table import keep_vqgan
from painter_core.stages.decode_pictures import DecodePictures
from painter_core.stages.parts import codes_table
from painter_core.stages.pins import check_pins
from painter_core.stages.views import ViewFlags, Views
from painter_core.tables.unit_row import UnitRow
from painter_core.text.prompt_style import PromptStyle

CAPTION_BYTES = 100  # of a row's idx and caption, for the estimate of what will be written


@dataclass(frozen=True, kw_only=True)
class PrecomputeConfig:
    """pairs table (idx, text, picture) -> codes table (idx, text, codes)."""

    table: TableFlags
    input: PairFlags = field(default_factory=PairFlags)
    style: PromptStyle = field(default_factory=PromptStyle)
    model: ModelFlags = field(default_factory=ModelFlags)
    vqgan: str = "bundled"
    """VQGAN: a model directory, or `bundled`."""
    image_size: int | None = None
    """Side of the pictures in pixels; the VQGAN's own by default, another one is refused."""
    resize: Resize = "bilinear"
    """bilinear: EasyNLP's transform; antialias: bicubic with antialiasing."""
    alpha: Alpha = "white"
    """What lies under transparent pixels: white, or `drop` for the hidden colour, as in EasyNLP."""
    views: ViewFlags = field(default_factory=ViewFlags)
    random_seed: int = 42
    """Seed of the views."""
    expect: str = ""
    """Sizes that the VQGAN must have, `image_size=256,codebook_size=16384`; changes nothing."""

    def __post_init__(self) -> None:
        check_range("--image-size", self.image_size, 1, 65536)
        check_seed(self.random_seed)
        if self.views.variants == 1:
            refuse_unused(self, ["random_seed"], "without --variants and --augment, which draw by it")

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--tables": self.table.tables, "--outputs": self.table.outputs}

    def decoder(self, image_size: int) -> DecodePictures:
        """The operator that decodes, for pictures of `image_size` pixels a side."""
        return DecodePictures(
            decode=CellDecoder(image_size=image_size, resize=self.resize, alpha=self.alpha),
            column=self.input.second_sequence,
            keep_rejected=self.table.keep_rejected,
        )


def identity(config: PrecomputeConfig, model: ModelDirectory) -> dict[str, Any]:
    """What makes the codes; ValueError if the VQGAN does not fit the flags."""
    if model.vqgan_config is None:
        raise ValueError(f"--vqgan {config.vqgan}: this directory holds no VQGAN")
    size = model.vqgan_config.image_size
    if config.image_size not in (None, size):
        raise ValueError(f"--image-size: got {config.image_size}, but the VQGAN {config.vqgan} is for {size}")
    check_expected(config.expect, vqgan=model.vqgan_config, gpt=None)
    model.check_weights()
    preprocessing = {"image_size": size, "resize": config.resize, "alpha": config.alpha, "exif": "ignore"}
    made_by = {"vqgan_sha256": model.vqgan_sha256(), "preprocessing": preprocessing}
    made_by |= config.style.identity()  # of no meaning for the codes: training puts it around captions
    views = config.views.views(config.random_seed)
    return made_by if views is None else made_by | {"views": views.identity()}


@dataclass(kw_only=True)
class EncodePictures:
    """Model operator: pixels -> codes, in micro-batches of one size."""

    vqgan: str
    identity: dict[str, Any]
    """Names the VQGAN by its content."""
    precision: str
    micro_batch_size: int
    compiled: bool = False
    views: Views | None = None
    """What is encoded besides."""
    gpu: bool = False
    """Whether Ray gives the worker a GPU."""
    _device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self._device = worker_device(gpu=self.gpu)
        self._copies = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        opened = open_model(self.vqgan)
        model = opened.load_vqgan()
        check_pins(self.vqgan, {"vqgan_sha256": opened.vqgan_sha256()}, self.identity)
        self._model = prepare_vqgan(model, self._device, self.precision, compiled=self.compiled)
        most = vqgan_most_rows(model.config, self._device.type)
        self._pieces = Pieces(self.micro_batch_size, most)

    def __call__(self, row: UnitRow) -> UnitRow:
        began = time.monotonic()
        config = self._model.config
        shape = (-1, config.image_size, config.image_size, 3)
        pixels = np.frombuffer(row.payload["pixels"], np.uint8).reshape(shape)
        codes = self.encode(pixels)
        more = {} if self.views is None else self._views(self.views, pixels, row)
        failpoint("unit_computed", unit=row.unit)
        seconds = time.monotonic() - began
        return row.carrying(codes=codes.tobytes(), **more, image_len=config.image_len, model_s=seconds)

    def _views(self, views: Views, pixels: np.ndarray, row: UnitRow) -> dict[str, Any]:
        """Codes of the other views, one after the other: their pixels together would not fit."""
        idx = row.table.column("idx").to_pylist()
        found = [self.encode(views.pixels(pixels, idx, variant)) for variant in range(1, views.variants)]
        return {"views": np.stack(found, 1).tobytes(), "variants": views.variants}

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


def table_job(
    config: PrecomputeConfig, model: ModelDirectory, cluster: Cluster, *, outputs_flag: str = "--outputs"
) -> TableJob:
    """The job that makes a codes table; ValueError if the VQGAN does not fit the flags."""
    gpus = find_gpus(config.model, cluster)
    settings = model_settings(config.model.precision, config.model.compile, gpu=gpus.used, bf16=gpus.bf16)
    made_by, vqgan = identity(config, model), model.require_vqgan()
    return TableJob(
        stage="precompute",
        table="codes",
        flags=config.table,
        columns=config.input.columns(),
        identity=made_by,
        model=config.model,
        settings=settings,
        row_bytes=2 * vqgan.image_len * config.views.variants + CAPTION_BYTES,
        memory_per_row=vqgan_row_bytes(vqgan, settings["precision"]),
        weights_bytes=weights_bytes(VQGAN, vqgan),
        picture_bytes=3 * vqgan.image_size**2,
        reads=(name_for_workers(config.vqgan),),
        manifest={"image_len": vqgan.image_len} | _variants(config.views),
        outputs_flag=outputs_flag,
    )


def _variants(flags: ViewFlags) -> dict[str, int]:
    return {} if flags.variants == 1 else {"variants": flags.variants}


def make_codes(config: PrecomputeConfig, run: Run, cluster: Cluster, *, outputs_flag: str) -> None:
    """Makes or completes a codes table.

    Args:
        outputs_flag: the flag that names it, for messages.
    """
    model = open_model(config.vqgan)
    job = table_job(config, model, cluster, outputs_flag=outputs_flag)
    table = TableRun(job, run, cluster)
    if table.writes:
        keep_vqgan(model, table.directory, job.identity)
    encoder = {
        "vqgan": name_for_workers(config.vqgan),
        "identity": job.identity,
        "precision": job.settings["precision"],
        "compiled": table.job.settings["compile"],
        "micro_batch_size": table.micro_batch_size,
        "gpu": table.resources.uses_gpu,
        "views": config.views.views(config.random_seed),
    }
    table.execute(
        Tasks(operator=config.decoder(model.require_vqgan().image_size)),
        Actors(operator=EncodePictures, arguments=encoder),
        parts=Parts(build=codes_table),
    )


def precompute_codes(config: PrecomputeConfig, run: Run) -> None:
    """pairs -> codes."""
    make_codes(config, run, start_ray(config.model.gpu_wait()), outputs_flag="--outputs")
    run.then(next_step("precompute_codes", config.table.outputs, dry_run=config.table.dry_run))
