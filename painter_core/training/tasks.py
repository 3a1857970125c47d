"""What a run learns of its samples in an epoch, and how good it is at that."""

from torch import nn

from painter_core.models.gpt import GPTConfig
from painter_core.training.both_ways import BothWays, validate_text
from painter_core.training.data_order import captioned_rows
from painter_core.training.gpt import Painting, Task, validate
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.regularisation import draws_of
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker


def task_of(config: TrainConfig, gpt: GPTConfig, samples: Samples, *, epoch: int) -> Task:
    """What the samples teach in an epoch: painting, or both ways."""
    seed, share, n = config.run.random_seed, config.both_ways.image_to_text, len(samples)
    flags = config.regularisation
    draws = draws_of(flags, samples, seed=seed, epoch=epoch, caption_dropout=config.caption_dropout)
    if not share:
        return Painting(samples=samples, draws=draws, flags=flags)
    captioned = captioned_rows(seed, epoch, n, share)
    return BothWays(
        samples=samples,
        captioned=captioned,
        weight=config.both_ways.weight,
        dropped=draws.dropped,
        variants=draws.variants,
        paints=gpt.paints,
    )


def validate_all(
    model: nn.Module, gpt: GPTConfig, samples: Samples, worker: Worker, config: TrainConfig, rows: int
) -> dict[str, float]:
    """The losses of all directions that are trained, as metrics name them, the one that chooses first.

    Args:
        rows: samples of a forward pass.
    """
    found = {}
    if gpt.paints:
        found["valid_loss"] = validate(model, samples, worker, rows)
    if config.both_ways.image_to_text:
        found["valid_text_loss"] = validate_text(model, samples, worker, rows)
    chooses_last = config.both_ways.image_to_text == 1
    return dict(reversed(found.items())) if chooses_last else found
