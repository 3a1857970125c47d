"""Recipes of benchmarks/few_pictures.py: quickstart's settings (`base`), and what is changed of them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from painter_core.training.fine_tuning import FineTuningFlags
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.regularisation import RegularisationFlags
from painter_core.training.run_flags import TrainingRunFlags

BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a run."""

    regular: dict[str, Any] = field(default_factory=dict)
    """Of RegularisationFlags."""
    train: dict[str, Any] = field(default_factory=dict)
    """Of TrainConfig, instead of quickstart's."""
    tuning: dict[str, Any] | None = None
    """Of FineTuningFlags, of recipes that go on with a trained model, by AdamW."""
    variants: int = 1
    """Views of a picture, whose codes are drawn from."""
    share: float = 1.0
    """Of the time."""
    cost: float = 1.0
    """Time of a step on a CPU, times that of `base`; measured."""

    def config(self, seed: int) -> TrainConfig:
        """Settings of the training."""
        settings: dict[str, Any] = {
            "optimizer": "muon", "learning_rate": 2e-3, "warmup_proportion": 0.05,
            "caption_dropout": 0.1, "micro_batch_size": 16,
        }  # fmt: skip
        start: dict[str, Any] = {"model": "tiny"}
        if self.tunes:
            start = {"pretrained_model_name_or_path": "-", "optimizer": "adamw"}
        return TrainConfig(
            tables="-,-",
            checkpoint_dir="-",
            run=TrainingRunFlags(random_seed=seed),
            regularisation=RegularisationFlags(**self.regular),
            fine_tuning=FineTuningFlags(**self.tuning or {}),
            **settings | start | self.train,
        )

    @property
    def tunes(self) -> bool:
        """Whether it goes on with a trained model."""
        return self.tuning is not None


def _with(recipe: Recipe, **more: Any) -> Recipe:
    return dataclasses.replace(recipe, regular=recipe.regular | more)


_DROPOUT = 1.3  # cost
_NOISE = Recipe(regular={"pkeep": 0.9, "dropout": 0.1}, cost=_DROPOUT)
_VIEWS = Recipe(regular={"pkeep": 0.9}, variants=8)
RECIPES = {
    BASE: Recipe(),
    "base, half the time": Recipe(share=0.5),
    "base, a quarter": Recipe(share=0.25),
    "pkeep 0.9": Recipe(regular={"pkeep": 0.9}),
    "dropout 0.1": Recipe(regular={"dropout": 0.1}, cost=_DROPOUT),
    "pkeep+dropout": _NOISE,
    "crops": Recipe(variants=8),
    "crops+noise": dataclasses.replace(_NOISE, variants=8),
    "decay 0.1": Recipe(train={"weight_decay": 0.1}),
    "ema 0.99": Recipe(regular={"ema_decay": 0.99}, cost=1.03),
    "smoothing": Recipe(regular={"label_smoothing": 0.1}),
    "pkeep 0.75": Recipe(regular={"pkeep": 0.75}),
    "dropout 0.2": Recipe(regular={"dropout": 0.2}, cost=_DROPOUT),
    "captions 0.2": Recipe(train={"caption_dropout": 0.2}),
    "rate 1e-3": Recipe(train={"learning_rate": 1e-3}),
    "strong": Recipe(regular={"pkeep": 0.8, "dropout": 0.2}, train={"weight_decay": 0.1}, cost=_DROPOUT),
    "strong+crops": Recipe(
        regular={"pkeep": 0.8, "dropout": 0.2}, train={"weight_decay": 0.1}, variants=8, cost=_DROPOUT
    ),
    "crops+dropout": Recipe(regular={"dropout": 0.1}, variants=8, cost=_DROPOUT),
    "crops+pkeep": _VIEWS,
    "crops+pkeep 0.95": _with(_VIEWS, pkeep=0.95),
    "crops+pkeep 0.8": _with(_VIEWS, pkeep=0.8),
    "crops+pkeep, dropout 0.05": dataclasses.replace(_with(_VIEWS, dropout=0.05), cost=_DROPOUT),
    "crops+pkeep, 4 variants": dataclasses.replace(_VIEWS, variants=4),
    "crops+pkeep, 16 variants": dataclasses.replace(_VIEWS, variants=16),
    "crops+pkeep, rate 3e-3": dataclasses.replace(_VIEWS, train={"learning_rate": 3e-3}),
    "crops+pkeep, batch 32": dataclasses.replace(
        _VIEWS, train={"micro_batch_size": 32, "learning_rate": 2.8e-3}, cost=1.5
    ),
    "crops+pkeep+ema": Recipe(regular={"pkeep": 0.9, "ema_decay": 0.99}, variants=8, cost=1.03),
    "noise+ema": _with(_NOISE, ema_decay=0.99),
}  # fmt: skip
for _rate in (1e-4, 3e-4, 1e-3):
    RECIPES[f"full {_rate}"] = Recipe(tuning={}, train={"learning_rate": _rate})
for _rate in (1e-3, 3e-3, 1e-2):
    RECIPES[f"rank 8 {_rate}"] = Recipe(tuning={"lora_rank": 8}, train={"learning_rate": _rate})
