"""Settings of the VQGAN's training."""

from dataclasses import dataclass, field
from typing import Literal

from painter_core.flag_checks import check_range, check_seed
from painter_core.images.decode import Alpha, Resize
from painter_core.models.vqgan import VQGANConfig


@dataclass(frozen=True, kw_only=True)
class VQGANTrainConfig:
    """pairs tables (train, valid) -> VQGAN directory."""

    tables: str
    """Pairs tables: TRAIN or TRAIN,VALID."""
    outputs: str
    """Output: best/ and last/ model directories, checkpoints/, metrics.jsonl, tensorboard/."""
    input_schema: str = "idx:str:1,text:str:1,imgbase64:str:1"
    """Columns of a TSV, in order: name:type:length."""
    second_sequence: str = "imgbase64"
    """Column of the picture."""
    geometry: VQGANConfig = field(default_factory=VQGANConfig)
    vqgan: str | None = None
    """VQGAN to start from (a directory, or `bundled`); its geometry is taken."""
    decoder_only: bool = False
    """Train the decoder alone: codes stay what they are, and cached codes stay valid. Needs --vqgan."""
    resize: Resize = "antialias"
    """How pictures are brought to size."""
    alpha: Alpha = "white"
    """What lies under transparent pixels."""
    learning_rate: float = 5e-4
    """Highest learning rate; 2 % of the steps to rise, then a cosine to 2 %."""
    max_steps: int = 100_000
    """Updates."""
    micro_batch_size: int = 32
    """Pictures a worker and step."""
    l2_weight: float = 1.0
    """Weight of the squared error beside the absolute one."""
    perceptual_weights: str | None = None
    """VGG16's weights for a perceptual term: FILE (torchvision's names), or FILE,FILE with LPIPS's heads."""
    perceptual_weight: float = 1.0
    """Weight of the perceptual term, if there is one."""
    quantize_after: int = 200
    """Steps before the codebook is laid out over the latents and used; 0 with --vqgan."""
    disc_start: int = 1_000_000
    """Step from which the discriminator takes part; later than --max-steps: never."""
    disc_weight: float = 0.5
    """Weight of the adversarial loss, times the adaptive weight."""
    ema_decay: float = 0.998
    """Of the averaged weights, which are what is saved."""
    logging_steps: int = 100
    """Steps between lines of metrics."""
    save_checkpoint_steps: int = 1000
    """Steps between checkpoints, each with a validation."""
    keep_checkpoints: int = 2
    """Checkpoints kept."""
    random_seed: int = 42
    """Seed of weights, order and revival."""
    num_workers: str = "1"
    """Training workers: N, or MIN,MAX."""
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """One GPU a worker; auto: if the cluster has any."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is autocast with float32 weights and a float32 quantizer; auto: bf16 where the hardware has it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of encoder and decoder; auto: on a GPU."""
    max_reject_fraction: float = 0.01
    """More pictures than this share that cannot be used: exit code 3."""
    overwrite: bool = False
    """Replace a run with other settings in --outputs; it stays until the new one is
    complete."""
    dry_run: bool = False
    """Check inputs, models and settings, do one step in this process, write nothing."""

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
        check_range("--logging-steps", self.logging_steps, 1, 10**9)
        check_range("--save-checkpoint-steps", self.save_checkpoint_steps, 1, 10**9)
        check_range("--keep-checkpoints", self.keep_checkpoints, 1, 10**6)
        check_range("--max-reject-fraction", self.max_reject_fraction, 0, 1)
        check_seed(self.random_seed)
