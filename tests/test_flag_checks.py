"""Every numeric flag of every job: what it cannot mean is refused with the flag's name."""

import dataclasses
import math
import re
import types
import typing
from typing import Any

import numpy as np
import pytest
import torch

from painter_core.flag_checks import MOST_SEED, check_range
from painter_core.model_files.from_foreign import ConvertOptions
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.painting.sampling import SamplingConfig
from painter_core.runs.flags import ModelFlags, TableFlags
from painter_core.sample.pictures import sample_row
from painter_core.stages.caption.config import CaptionConfig
from painter_core.stages.convert_checkpoint import ConvertConfig
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.make_gallery.entries import GalleryConfig
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.stages.train.codes import PairsConfig
from painter_core.stages.upscale.config import UpscaleConfig
from painter_core.training.both_ways import BothWaysFlags
from painter_core.training.codebook_care import CodebookCare
from painter_core.training.data_order import dropped_captions, epoch_order
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import TrainingRunFlags
from painter_core.training.vqgan_config import VQGANTrainConfig
from painter_core.training.worker import Worker
from painter_core.upscaling.flags import UpscaleFlags
from tests.support.jobs import TINY_VQGAN

TABLE = TableFlags(tables="t.tsv", outputs="out")
# what a job is given besides the flag at fault
CONFIGS: dict[type, dict[str, Any]] = {
    TableFlags: {"tables": "t.tsv", "outputs": "out"},
    ModelFlags: {},
    TrainingRunFlags: {},
    GenerateConfig: {"table": TABLE, "checkpoint_dir": "model"},
    SamplingConfig: {},
    CaptionConfig: {"table": TABLE, "checkpoint_dir": "model"},
    CaptionSampling: {},
    BothWaysFlags: {},
    PrecomputeConfig: {"table": TABLE},
    PairsConfig: {},
    TrainConfig: {"tables": "codes", "checkpoint_dir": "model"},
    VQGANTrainConfig: {"tables": "t.tsv", "outputs": "vqgan"},
    VQGANConfig: {},
    MakeTableConfig: {"outputs": "t.tsv", "sample": 1},
    InspectConfig: {"tables": "t.tsv"},
    GalleryConfig: {"tables": "t.tsv", "outputs": "g.html"},
    ConvertOptions: {},
    UpscaleFlags: {"upscaler": "network.pth"},
    UpscaleConfig: {"table": TABLE, "upscaling": UpscaleFlags(upscaler="network.pth")},
}
BAD: dict[type, list[float]] = {float: [math.nan, math.inf, -math.inf, -1.0, 1e30], int: [-1, 2**70]}


def kinds(annotation: Any) -> set[type]:
    """int and float among the types that a flag takes."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return {int, float} & set(typing.get_args(annotation) if is_union else [annotation])


NUMBERS = [
    (config, field.name, kind)
    for config in CONFIGS
    for field in dataclasses.fields(config)
    for kind in kinds(typing.get_type_hints(config)[field.name])
]


@pytest.mark.parametrize(("config", "name", "bad"), [(c, n, b) for c, n, kind in NUMBERS for b in BAD[kind]])
def test_what_a_flag_cannot_mean_is_refused_with_its_name(config: type, name: str, bad: float) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(ValueError, match=rf"(--{flag}|vqgan\.{name}): got {re.escape(str(bad))}, expected"):
        config(**CONFIGS[config] | {name: bad})


def test_all_configs_are_here() -> None:
    """Those of the jobs, and what they hold."""
    assert {c for c in CONFIGS if not any(kind for k, _, kind in NUMBERS if k is c)} == set()
    assert len(NUMBERS) >= 50


@pytest.mark.parametrize(
    ("config", "name", "bad"),
    [
        (TrainingRunFlags, "keep_checkpoints", 0),
        (TrainConfig, "n_layer", 0),  # not "as if it were not given"
        (TrainConfig, "learning_rate", 0.0),
        (TrainConfig, "epoch_num", 0.0),
        (TrainConfig, "caption_dropout", 1.0),  # the checkpoint just saved would be removed
        (VQGANTrainConfig, "ema_decay", 1.0),  # the average would never leave the start
        (VQGANTrainConfig, "ema_decay", 2.0),
        (VQGANTrainConfig, "max_steps", 0),
        (ModelFlags, "micro_batch_size", 0),
        (TableFlags, "limit", 0),
        (TableFlags, "max_reject_fraction", 1.5),
        (ConvertOptions, "n_head", 0),
        (MakeTableConfig, "image_size", 0),
    ],
)
def test_zero_and_one_where_they_mean_nothing(config: type, name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}: got {bad}"):
        config(**CONFIGS[config] | {name: bad})


@pytest.mark.parametrize(
    ("config", "name", "good"),
    [
        (TrainConfig, "weight_decay", 0.0),
        (TrainConfig, "epoch_num", 0.01),
        (TrainConfig, "max_grad_norm", 1e9),  # not scaled down at all
        (TrainingRunFlags, "random_seed", 0),
        (TrainingRunFlags, "random_seed", MOST_SEED),
        (VQGANTrainConfig, "l2_weight", 0.0),
        (VQGANTrainConfig, "ema_decay", 0.0),
        (VQGANTrainConfig, "quantize_after", 0),
        (VQGANTrainConfig, "disc_start", 0),
        (ModelFlags, "gpus_per_actor", 0.0),
        (ModelFlags, "gpus_per_actor", 0.25),
        (TableFlags, "max_reject_fraction", 1.0),
        (ModelFlags, "micro_batch_size", 4096),
        (InspectConfig, "max_rows", 0),  # all
        (MakeTableConfig, "sample", 0),
        (SamplingConfig, "top_k", 0),
    ],
)
def test_the_ends_of_a_range_are_taken(config: type, name: str, good: float) -> None:
    assert getattr(config(**CONFIGS[config] | {name: good}), name) == good


def test_the_message_names_flag_value_and_range() -> None:
    with pytest.raises(ValueError, match=r"^--top-p: got nan, expected above 0 and at most 1$"):
        check_range("--top-p", math.nan, 0, 1, above=True)
    with pytest.raises(
        ValueError, match=r"^--n: got 9223372036854775808, expected 0 to 9223372036854775807$"
    ):
        check_range("--n", 2**63, 0, MOST_SEED)
    check_range("--n", None, 0, 1)


@pytest.mark.parametrize(
    ("config", "given", "flag", "why"),
    [
        (VQGANTrainConfig, {"vqgan": "v", "geometry": VQGANConfig(ch=32)}, "ch", "beside --vqgan"),
        (VQGANTrainConfig, {"vqgan": "v", "quantize_after": 5}, "quantize-after", "beside --vqgan"),
        (VQGANTrainConfig, {"perceptual_weight": 2.0}, "perceptual-weight", "without --perceptual-weights"),
        (VQGANTrainConfig, {"disc_weight": 2.0}, "disc-weight", "unless --disc-start is below --max-steps"),
        (MakeTableConfig, {"captions": "c.tsv"}, "captions", "beside --sample"),
        (MakeTableConfig, {"sample": None, "pictures": "p", "split": "valid"}, "split", "beside --pictures"),
        (MakeTableConfig, {"sample": None, "pictures": "p", "scenes": 3}, "scenes", "beside --pictures"),
        (GalleryConfig, {"idx_column": "row"}, "idx-column", "without --originals"),
        (GalleryConfig, {"second_sequence": "jpg"}, "second-sequence", "without --originals"),
        (ConvertConfig, {"list": True, "vqgan": "bundled"}, "vqgan", "beside --list"),
        (ConvertConfig, {"list": True, "outputs": "o"}, "outputs", "beside --list"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(config: type, given: dict, flag: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"^--{flag}: does nothing {why}"):
        config(**CONFIGS.get(config, {}) | given)


def test_flags_that_do_something_are_taken() -> None:
    VQGANTrainConfig(**CONFIGS[VQGANTrainConfig], disc_weight=2.0, disc_start=5, max_steps=9)
    VQGANTrainConfig(**CONFIGS[VQGANTrainConfig], perceptual_weight=2.0, perceptual_weights="vgg.pth")
    VQGANTrainConfig(**CONFIGS[VQGANTrainConfig], geometry=VQGANConfig(ch=32), quantize_after=5)
    GalleryConfig(**CONFIGS[GalleryConfig], originals="p.tsv", idx_column="row")


def test_the_largest_seed_is_one_for_everything_that_is_drawn() -> None:
    torch.manual_seed(MOST_SEED)
    np.random.default_rng(MOST_SEED)
    assert sorted(epoch_order(MOST_SEED, 1, 5)) == [0, 1, 2, 3, 4]
    dropped_captions(MOST_SEED, 1, 5, 0.5)
    sample_row(MOST_SEED, 0, split="train")
    vqgan = VQGAN(TINY_VQGAN)
    optimizer = torch.optim.Adam(vqgan.parameters())
    alone = Worker(rank=0, world_size=1, device=torch.device("cpu"), precision="fp32")
    care = CodebookCare(vqgan, optimizer, dict(vqgan.state_dict()), alone, MOST_SEED)
    care.use[:] = 0
    care.revive(torch.randn(100, TINY_VQGAN.embed_dim), 25)
