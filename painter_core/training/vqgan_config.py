"""Settings of the VQGAN's training."""

from dataclasses import dataclass, field, fields
from typing import Literal

from painter_core.flag_checks import check_range, refuse_unused
from painter_core.images.decode import Alpha, Resize
from painter_core.models.vqgan import VQGANConfig
from painter_core.training.run_flags import BOUND, TrainingRunFlags


@dataclass(frozen=True, kw_only=True)
class VQGANTrainConfig:
    """pairs tables (train, valid) -> VQGAN directory."""

    tables: str
    """Pairs tables: TRAIN or TRAIN,VALID."""
    outputs: str
    """Output: best/ and last/ model directories, checkpoints/, metrics.jsonl, tensorboard/. A path that all
    workers see, or a URL (s3://, gs://, oss://): then a checkpoint is first written to the cache
    (PAINTER_CACHE) of the first worker's node."""
    input_schema: str = field(default="idx:str:1,text:str:1,imgbase64:str:1", metadata=BOUND)
    """Columns of a TSV, in order: name:type:length."""
    second_sequence: str = field(default="imgbase64", metadata=BOUND)
    """Column of the picture."""
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    """Encoding of a TSV: utf-8, or gb18030, which reads GBK and GB2312 too."""
    geometry: VQGANConfig = field(default_factory=VQGANConfig)
    vqgan: str | None = field(default=None, metadata=BOUND)
    """VQGAN to start from (a directory, or `bundled`); its geometry is taken."""
    decoder_only: bool = field(default=False, metadata=BOUND)
    """Train the decoder alone: codes stay what they are, and cached codes stay valid. Needs --vqgan."""
    resize: Resize = field(default="antialias", metadata=BOUND)
    """How pictures are brought to size."""
    alpha: Alpha = field(default="white", metadata=BOUND)
    """What lies under transparent pixels."""
    learning_rate: float = field(default=5e-4, metadata=BOUND)
    """Highest learning rate; 2 % of the steps to rise, then a cosine to 2 %."""
    max_steps: int = field(default=100_000, metadata=BOUND)
    """Updates."""
    micro_batch_size: int = 32
    """Pictures a worker and step; more with fewer workers than the most of --num-workers MIN,MAX."""
    l2_weight: float = field(default=1.0, metadata=BOUND)
    """Weight of the squared error beside the absolute one."""
    perceptual_weights: str | None = None
    """VGG16's weights for a perceptual term: FILE (torchvision's names), or FILE,FILE with LPIPS's heads."""
    perceptual_weight: float = field(default=1.0, metadata=BOUND)
    """Weight of the perceptual term, if there is one."""
    quantize_after: int = field(default=200, metadata=BOUND)
    """Steps before the codebook is laid out over the latents and used; 0 with --vqgan."""
    disc_start: int = field(default=1_000_000, metadata=BOUND)
    """Step from which the discriminator takes part; later than --max-steps: never."""
    disc_weight: float = field(default=0.5, metadata=BOUND)
    """Weight of the adversarial loss, times the adaptive weight."""
    ema_decay: float = field(default=0.998, metadata=BOUND)
    """Decay of the averaged weights, which are what is saved."""
    run: TrainingRunFlags = field(default_factory=lambda: TrainingRunFlags(keep_checkpoints=2))
    precision: Literal["auto", "fp32", "bf16"] = field(default="auto", metadata=BOUND)
    """bf16 is autocast with float32 weights and a float32 quantizer; auto: bf16 where the hardware has it."""
    max_reject_fraction: float = 0.01
    """More pictures than this share that cannot be used: exit code 3."""

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {"--tables": self.tables, "--outputs": self.outputs}

    def __post_init__(self) -> None:
        if self.decoder_only and not self.vqgan:
            raise ValueError("--decoder-only: needs --vqgan, whose codes are kept")
        check_range("--learning-rate", self.learning_rate, 0, 1, above=True)
        check_range("--max-steps", self.max_steps, 1, 10**9)
        check_range("--micro-batch-size", self.micro_batch_size, 1, 65536)
        check_range("--l2-weight", self.l2_weight, 0, 1e6)
        check_range("--perceptual-weight", self.perceptual_weight, 0, 1e6)
        check_range("--quantize-after", self.quantize_after, 0, 10**9)
        check_range("--disc-start", self.disc_start, 0, 10**9)
        check_range("--disc-weight", self.disc_weight, 0, 1e6)
        check_range("--ema-decay", self.ema_decay, 0, 0.999999)
        check_range("--max-reject-fraction", self.max_reject_fraction, 0, 1)
        if self.vqgan:
            geometry = [f.name for f in fields(self.geometry)]
            refuse_unused(self.geometry, geometry, "beside --vqgan, whose geometry is taken")
            refuse_unused(self, ["quantize_after"], "beside --vqgan, whose codebook is used from the start")
        if not self.perceptual_weights:
            refuse_unused(self, ["perceptual_weight"], "without --perceptual-weights FILE")
        if self.disc_start >= self.max_steps:
            refuse_unused(self, ["disc_weight"], "unless --disc-start is below --max-steps")
