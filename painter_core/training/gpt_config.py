"""Settings of the GPT's training, and the geometries of new models."""

from dataclasses import dataclass, field
from typing import Literal

from painter_core.models.gpt import GPTConfig
from painter_core.training.run_flags import BOUND, TrainingRunFlags

TEXT_LEN = 32

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
    """Output: best/ and last/ model directories, checkpoints/, metrics.jsonl, tensorboard/; all workers must
    see it."""
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
    """Of weight matrices; biases, norms and embeddings are not decayed."""
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
    micro_batch_size: int = 16
    """Samples a forward pass of one worker."""
    gradient_accumulation_steps: int = 1
    """Forward passes an update; global batch = micro_batch_size x workers x this."""
    sequence_length: int | None = None
    """Checked against text_len + image_len, if given (288 for the published models)."""
    expect: str = ""
    """Sizes that the model must have, `image_size=256,text_len=32,...`; changes nothing."""
    run: TrainingRunFlags = field(default_factory=TrainingRunFlags)
    precision: Literal["auto", "fp32", "bf16"] = field(default="auto", metadata=BOUND)
    """bf16 is autocast with float32 weights; auto: bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        positive = (
            "learning_rate",
            "epoch_num",
            "max_grad_norm",
            "micro_batch_size",
            "gradient_accumulation_steps",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"--{name.replace('_', '-')}: got {getattr(self, name)}, expected above 0")
        geometry = ("model", "n_layer", "n_head", "n_embd", "text_len", "vocab")
        given = [name for name in geometry if getattr(self, name) is not None]
        if given and self.pretrained_model_name_or_path:
            raise ValueError(
                f"--{given[0].replace('_', '-')}: means nothing beside "
                "--pretrained-model-name-or-path, whose geometry and vocabulary are taken; leave it out"
            )
        for name in ("n_layer", "n_head", "n_embd", "text_len"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')}: got {value}, expected 1 or more")
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"--caption-dropout: got {self.caption_dropout}, expected 0 to below 1")
        if not 0 <= self.warmup_proportion <= 1:
            raise ValueError(f"--warmup-proportion: got {self.warmup_proportion}, expected 0..1")

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
        )
