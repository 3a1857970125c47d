"""--recipe few: the settings that learned most from few pictures where all were compared (docs/QUALITY.md).

A recipe fills in flags that were not given, and nothing else: a run is the same with the flags written out.
"""

import dataclasses
import logging
import math
from typing import Any

from painter_core.runs.training_run import split_tables
from painter_core.stages.train.codes import TrainJobConfig, is_codes
from painter_core.stages.views import ViewFlags
from painter_core.tables.records import read_manifest
from painter_core.training.gpt_config import TrainConfig

log = logging.getLogger(__name__)

UPDATES, VALIDATIONS = 1250, 10
VIEWS = ViewFlags(variants=8, augment="crop")
NOISE: dict[str, Any] = {"pkeep": 0.9}
TRAINING: dict[str, Any] = {"caption_dropout": 0.1}
NEW_MODEL: dict[str, Any] = {
    "model": "tiny", "optimizer": "muon", "learning_rate": 2e-3, "warmup_proportion": 0.05,
}  # fmt: skip


def with_views(config: TrainJobConfig) -> TrainJobConfig:
    """The job with the recipe's crops, where it makes the codes itself."""
    if config.train.recipe is None or config.pairs.views != ViewFlags():
        return config
    if all(is_codes(table) for table in split_tables(config.train.tables)):
        return config
    return dataclasses.replace(config, pairs=dataclasses.replace(config.pairs, views=VIEWS))


def with_recipe(config: TrainConfig) -> TrainConfig:
    """The training with the recipe's settings; `tables` names codes tables that are made."""
    if config.recipe is None:
        return config
    manifest = read_manifest(split_tables(config.tables)[0])
    if "variants" not in manifest:
        log.warning(
            "--recipe few: the codes have no other views of the pictures, which help most; make them with "
            "precompute_codes.py --variants %d --augment %s",
            VIEWS.variants,
            VIEWS.augment,
        )
    settings = TRAINING | ({} if config.pretrained_model_name_or_path else NEW_MODEL)
    samples = UPDATES * config.global_batch_size(1)
    settings["epoch_num"] = max(1.0, math.ceil(samples / max(1, manifest["rows_out"])))
    filled = _filled(config, settings)
    every = {"save_checkpoint_steps": UPDATES // VALIDATIONS}
    return dataclasses.replace(
        filled,
        regularisation=_filled(config.regularisation, NOISE),
        run=_filled(config.run, every),
    )


def _filled(config: Any, settings: dict[str, Any]) -> Any:
    """A config with these settings where it has its defaults."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    new = {name: value for name, value in settings.items() if getattr(config, name) == defaults[name]}
    log.info("--recipe few: %s", ", ".join(f"{name} {value}" for name, value in new.items()) or "nothing new")
    return dataclasses.replace(config, **new)
