"""What a pretrained model can do, and what it will: painting, captioning, or both."""

import dataclasses
import logging

from painter_core.files.storage import redact
from painter_core.model_files.directory import ModelDirectory
from painter_core.models.gpt import CAPTIONS, PAINTS, GPTConfig
from painter_core.training.gpt_config import TrainConfig

log = logging.getLogger(__name__)


def with_directions(config: TrainConfig, gpt: GPTConfig) -> GPTConfig:
    """The geometry of the pretrained model, with the directions that it will have.

    Raises:
        ValueError: it only captions, and painting is asked for.
    """
    share, name = config.both_ways.image_to_text, redact(config.pretrained_model_name_or_path or "")
    if not gpt.paints and share < 1:
        raise ValueError(
            f"--pretrained-model-name-or-path {name}: only captions; give --image-to-text 1 to train it on"
        )
    if share == 0 and gpt.captions:
        log.warning(
            "%s captions too, which is not trained: its text head stays as it is while the rest changes; "
            "see --image-to-text",
            name,
        )
    return dataclasses.replace(gpt, directions=(PAINTS, CAPTIONS)) if share and gpt.paints else gpt


def pretrained_pins(model: ModelDirectory, config: TrainConfig) -> dict[str, str]:
    """Sums of what a run takes from a pretrained model; of a text head only where one is trained."""
    pins = {"pretrained_sha256": model.gpt_sha256()}
    if config.both_ways.image_to_text and model.gpt_config is not None and model.gpt_config.captions:
        pins["pretrained_text_head_sha256"] = model.text_head_sha256()
    return pins
