"""Settings of the GPT's training, and the geometries of new models."""

from dataclasses import dataclass, field
from typing import Literal

from painter_core.files.storage import is_local, redact
from painter_core.flag_checks import check_range
from painter_core.models.gpt import CAPTIONS, PAINTS, GPTConfig
from painter_core.training.both_ways import BothWaysFlags
from painter_core.training.fine_tuning import FineTuningFlags
from painter_core.training.regularisation import RegularisationFlags
from painter_core.training.run_flags import BOUND, TrainingRunFlags

TEXT_LEN = 32
MICRO_BATCH = 16  # samples of a forward pass, if nothing is said

Preset = Literal["tiny", "base", "large"]
PRESETS: dict[str, tuple[int, int, int]] = {
    "tiny": (4, 8, 192),
    "base": (12, 12, 768),
    "large": (24, 16, 1024),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """codes tables (train, valid) -> model directory."""

    tables: str
    """Codes tables, as jobs/precompute_codes.py writes them: TRAIN or TRAIN,VALID. Or pairs tables, with
    --codes-dir."""
    checkpoint_dir: str
    """Output: best/ and last/ model directories, checkpoints/, metrics.jsonl, tensorboard/. A path that all
    workers see, or a URL (s3://, gs://, oss://), for which nodes share nothing: then a checkpoint is first
    written to the cache (PAINTER_CACHE) of the first worker's node."""
    recipe: Literal["few"] | None = None
    """few: settings for a few thousand pictures or fewer, where they are not given (docs/FINE_TUNING.md)."""
    pretrained_model_name_or_path: str | None = None
    """Model directory to start from; its geometry and vocabulary are taken."""
    model: Preset | None = None
    """Geometry of a new model: tiny (4 layers, 192 wide), base (12, 768) or large (24, 1024); base by
    default."""
    n_layer: int | None = None
    """Blocks of a new model, instead of the preset's."""
    n_head: int | None = None
    """Heads of a new model, instead of the preset's."""
    n_embd: int | None = None
    """Width of a new model, instead of the preset's."""
    text_len: int | None = None
    """Text ids of a new model, by default 32; longer captions are cut."""
    vocab: str | None = None
    """vocab.txt or tokenizer.json of a new model; by default a built-in vocabulary."""
    learning_rate: float = field(default=4e-5, metadata=BOUND)
    """Highest learning rate, reached after the warm-up."""
    epoch_num: float = field(default=1.0, metadata=BOUND)
    """Passes over the training table; may be a fraction."""
    weight_decay: float = field(default=1e-4, metadata=BOUND)
    """Decay of weight matrices; biases, norms and embeddings are not decayed."""
    optimizer: Literal["adamw", "muon"] = field(default="adamw", metadata=BOUND)
    """adamw, as EasyNLP; muon for the matrices of the blocks learns from scratch in about a third of the
    steps."""
    warmup_proportion: float = field(default=0.1, metadata=BOUND)
    """Share of all steps in which the learning rate rises; then it falls linearly to 0."""
    max_grad_norm: float = field(default=1.0, metadata=BOUND)
    """Gradients are scaled down to this norm."""
    caption_dropout: float = field(default=0.0, metadata=BOUND)
    """Share of the samples, in each epoch others, that are learned without their caption; 0.1 makes
    --guidance-scale of generate.py work."""
    regularisation: RegularisationFlags = field(default_factory=RegularisationFlags)
    fine_tuning: FineTuningFlags = field(default_factory=FineTuningFlags)
    micro_batch_size: int | None = None
    """Samples a forward pass of one worker: 16 by default, and with --batch-size on a GPU as many as its
    memory takes."""
    gradient_accumulation_steps: int = 1
    """Forward passes an update; global batch = micro_batch_size x workers (the most, of MIN,MAX) x this. With
    fewer workers each does more passes."""
    batch_size: int | None = None
    """Global batch: samples an update, of all workers together, in as many forward passes as
    --micro-batch-size makes of them; instead of --gradient-accumulation-steps."""
    activation_checkpointing: bool = False
    """Keep no activations of the blocks but compute them again in the backward pass: less memory, about a
    third more work, the same weights."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every worker holds the whole model; fsdp: weights, gradients and moments are spread over the
    workers, for models that do not fit. A run may go on with the other one."""
    sequence_length: int | None = None
    """Checked against text_len + image_len, if given (288 for the published models)."""
    expect: str = ""
    """Sizes that the model must have, `image_size=256,text_len=32,...`; changes nothing."""
    both_ways: BothWaysFlags = field(default_factory=BothWaysFlags)
    run: TrainingRunFlags = field(default_factory=TrainingRunFlags)
    precision: Literal["auto", "fp32", "bf16"] = field(default="auto", metadata=BOUND)
    """bf16 is autocast with float32 weights; auto: bf16 on GPUs that have it, and on CPUs
    with AMX."""

    def __post_init__(self) -> None:
        check_range("--n-layer", self.n_layer, 1, 256)
        check_range("--n-head", self.n_head, 1, 256)
        check_range("--n-embd", self.n_embd, 1, 16384)
        check_range("--text-len", self.text_len, 1, 4096)
        check_range("--learning-rate", self.learning_rate, 0, 1, above=True)
        check_range("--epoch-num", self.epoch_num, 0, 1e6, above=True)
        check_range("--weight-decay", self.weight_decay, 0, 10)
        check_range("--warmup-proportion", self.warmup_proportion, 0, 1)
        check_range("--max-grad-norm", self.max_grad_norm, 0, 1e9, above=True)
        check_range("--caption-dropout", self.caption_dropout, 0, 0.99)
        check_range("--micro-batch-size", self.micro_batch_size, 1, 65536)
        check_range("--gradient-accumulation-steps", self.gradient_accumulation_steps, 1, 65536)
        check_range("--batch-size", self.batch_size, 1, 2**31 - 1)
        if self.regularisation.patience is not None and "," not in self.tables:
            raise ValueError(
                f"--patience {self.regularisation.patience}: stops by the validation loss; give --tables "
                "TRAIN,VALID, or leave it out"
            )
        if self.batch_size is not None and self.gradient_accumulation_steps > 1:
            raise ValueError(
                f"--batch-size {self.batch_size}: says already how many samples an update has; leave "
                "--gradient-accumulation-steps out"
            )
        self._check_lora()
        self._check_noise()
        check_range("--sequence-length", self.sequence_length, 2, 65536 + 4096)
        if self.parallel == "fsdp" and self.optimizer == "muon":
            raise ValueError(
                "--parallel fsdp: not with --optimizer muon, which needs whole matrices; use adamw, or "
                "--parallel ddp"
            )
        if self.parallel == "fsdp" and not is_local(self.checkpoint_dir):
            raise ValueError(
                f"--parallel fsdp: --checkpoint-dir {redact(self.checkpoint_dir)} is a URL, but every worker "
                "writes its share of a checkpoint; give a path that all nodes see, or --parallel ddp"
            )
        geometry = ("model", "n_layer", "n_head", "n_embd", "text_len", "vocab")
        given = [name for name in geometry if getattr(self, name) is not None]
        if given and self.pretrained_model_name_or_path:
            raise ValueError(
                f"--{given[0].replace('_', '-')}: means nothing beside "
                "--pretrained-model-name-or-path, whose geometry and vocabulary are taken; leave it out"
            )

    def _check_lora(self) -> None:
        rank = self.fine_tuning.lora_rank
        if rank is None:
            return
        if self.pretrained_model_name_or_path is None:
            raise ValueError(
                f"--lora-rank {rank}: adapters stand beside a trained model; give "
                "--pretrained-model-name-or-path"
            )
        for flag, value, other in (
            ("optimizer", self.optimizer, "adamw"),
            ("parallel", self.parallel, "ddp"),
            ("image-to-text", self.both_ways.image_to_text, 0),
        ):
            if value != other:
                raise ValueError(f"--{flag} {value}: not with --lora-rank {rank}; take {other} there")

    def _check_noise(self) -> None:
        flags = self.regularisation
        noise = (
            ("recipe", self.recipe, None),
            ("pkeep", flags.pkeep, 1),
            ("dropout", flags.dropout, 0),
            ("label-smoothing", flags.label_smoothing, 0),
        )
        for flag, value, off in noise if self.both_ways.image_to_text else ():
            if value != off:
                raise ValueError(
                    f"--{flag} {value}: not with --image-to-text, whose captions are learned without noise; "
                    "leave one of them out"
                )

    def global_batch_size(self, num_workers: int) -> int:
        """Samples an update."""
        micro_batch = self.micro_batch_size or MICRO_BATCH
        return self.batch_size or micro_batch * num_workers * self.gradient_accumulation_steps

    def new_gpt(self, *, text_vocab_size: int, codebook_size: int, image_len: int) -> GPTConfig:
        """Geometry of a model trained from scratch."""
        n_layer, n_head, n_embd = PRESETS[self.model or "base"]
        return GPTConfig(
            text_vocab_size=text_vocab_size,
            codebook_size=codebook_size,
            text_len=self.text_len or TEXT_LEN,
            image_len=image_len,
            n_layer=self.n_layer or n_layer,
            n_head=self.n_head or n_head,
            n_embd=self.n_embd or n_embd,
            directions=(PAINTS, CAPTIONS) if self.both_ways.image_to_text else (PAINTS,),
        )
