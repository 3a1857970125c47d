"""Ray Train around painter_core.training.gpt: plan, workers, checkpoints, metrics.

The order of samples is a function of (seed, epoch) and the global batch is fixed when a run begins; the
checkpoint holds the global position. So a run that is resumed, also with another number of workers, sees
every sample of the epoch once.
"""

import dataclasses
import logging
import math
from typing import Any

from painter_core.files.directories import local_directory
from painter_core.files.storage import absolute, filesystem, join, redact
from painter_core.model_files.directory import ModelDirectory, weights_bytes
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.runs.cluster import Cluster
from painter_core.runs.gpus import settle_compile
from painter_core.runs.ray_train import Workers, find_workers
from painter_core.runs.run import Run
from painter_core.runs.training_run import TrainingRun, split_tables
from painter_core.stages.codes_table import check_captions, codes_manifest, open_vqgan
from painter_core.stages.pins import content_sha256
from painter_core.stages.train.directions import pretrained_pins, with_directions
from painter_core.stages.train.previews import PreviewPlan
from painter_core.stages.train.table_style import table_style
from painter_core.text.prompt_style import PLAIN, PromptStyle
from painter_core.text.tokenizer import Tokenizer, builtin_tokenizer, load_tokenizer
from painter_core.training.data_order import steps_per_epoch
from painter_core.training.fine_tuning import check_freeze
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import bound_settings

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run is to do: made by the driver, read by every worker."""

    config: TrainConfig
    root: str
    """Where it writes, as a path or URL: --checkpoint-dir, or what stands beside it and will replace it."""
    gpt: GPTConfig
    train_table: str
    valid_table: str | None
    identity: dict[str, Any]
    """What must be the same when the run is resumed."""
    tables_sha256: list[str]
    """Content of the tables."""
    global_batch_size: int
    num_samples: int
    workers: Workers
    previews: PreviewPlan | None = None
    """What is painted while it trains."""
    style: PromptStyle = PLAIN
    """What is put around captions."""

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""
        return steps_per_epoch(self.num_samples, self.global_batch_size)

    @property
    def num_steps(self) -> int:
        """Updates of the whole run."""
        return max(1, math.ceil(self.steps_per_epoch * self.config.epoch_num))

    @property
    def tokenizer_dir(self) -> str:
        """Where the driver saved the tokenizer, as a path or URL."""
        return join(self.root, "_run", "tokenizer")

    @property
    def vqgan_dir(self) -> str:
        """The VQGAN that made the codes."""
        return join(self.train_table, "_run", "vqgan")


def make_plan(
    config: TrainConfig, run: Run, cluster: Cluster, style: PromptStyle | None = None
) -> tuple[TrainPlan, TrainingRun] | None:
    """Checks tables, model and resources; writes _run/plan.json, or takes it up again.

    Args:
        config: with codes tables only.
        run: of the process.
        cluster: what the workers run on.
        style: what the flags put around captions.

    Returns:
        The plan, and the run that its workers' results end; None if the run is complete.

    Raises:
        ValueError: wrong flags or inputs, nothing was written.
        Refused: --checkpoint-dir holds a run with other settings.
    """
    config = _for_workers(config)
    training = training_run(config, run)
    tables = split_tables(config.tables)
    manifests = _codes_manifests(tables)
    start = find_start(config, open_vqgan(tables[0]))
    style = table_style(style or PLAIN, tables, manifests)
    samples = _count_samples(tables, manifests, start, style)
    workers = find_workers(config.run, cluster)
    config = dataclasses.replace(config, run=settle_compile(config.run, use_gpu=workers.use_gpu))
    batch = config.global_batch_size(workers.most)
    identity = _identity(config, manifests, start) | style.identity()
    stored = training.take_up(
        as_recorded_before(identity, training.stored(), config, tables),
        {"global_batch_size": min(batch, samples), "config": _recorded(config)},
        config.run,
        needed_bytes=(config.run.keep_checkpoints + 1) * 3 * weights_bytes(GPT, start.gpt),
        reads=[*tables, config.pretrained_model_name_or_path or ""],
    )
    if stored is None:
        return None
    plan = TrainPlan(
        config=config,
        root=training.root,
        gpt=start.gpt,
        train_table=tables[0],
        valid_table=tables[1] if len(tables) > 1 else None,
        identity=stored["identity"],
        tables_sha256=identity["tables_sha256"],
        # the batches of a run stay the same, also when it goes on with other workers
        global_batch_size=stored["global_batch_size"],
        num_samples=samples,
        workers=workers,
        style=style,
    )
    if not config.run.dry_run:
        with local_directory(plan.tokenizer_dir) as directory:
            start.tokenizer.save(directory)
    return plan, training


def _count_samples(
    tables: list[str], manifests: list[dict[str, Any]], start: "Start", style: PromptStyle
) -> int:
    """Samples of the training table; ValueError if there are none, or if hardly a word of them is known."""
    style.check_room(start.tokenizer, start.gpt.text_len)
    for table in tables:
        check_captions(table, start.tokenizer, text_len=start.gpt.text_len, style=style)
    samples = sum(part["rows"] for part in manifests[0]["parts"])
    if samples < 1:
        raise ValueError(f"--tables {redact(tables[0])}: no rows")
    return samples


def training_run(config: TrainConfig, run: Run) -> TrainingRun:
    """The run in --checkpoint-dir; Refused if something else is there."""
    return TrainingRun("train", "--checkpoint-dir", absolute(config.checkpoint_dir), run)


def _for_workers(config: TrainConfig) -> TrainConfig:
    """Relative paths made absolute."""
    pretrained = config.pretrained_model_name_or_path
    return dataclasses.replace(
        config,
        tables=",".join(absolute(table) for table in split_tables(config.tables)),
        checkpoint_dir=absolute(config.checkpoint_dir),
        pretrained_model_name_or_path=name_for_workers(pretrained) if pretrained else None,
    )


def _codes_manifests(tables: list[str]) -> list[dict[str, Any]]:
    """The manifests of tables of one VQGAN."""
    manifests = [codes_manifest(table) for table in tables]
    if len({m["identity"]["vqgan_sha256"] for m in manifests}) > 1:
        shas = " and ".join(m["identity"]["vqgan_sha256"][:16] for m in manifests)
        raise ValueError(
            f"--tables: the codes were made by different VQGANs (sha256 {shas}); compute one of them again"
        )
    return manifests


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What a run begins with."""

    gpt: GPTConfig
    tokenizer: Tokenizer
    pretrained: dict[str, str | None]
    """Sums of the GPT's weights; None for a new model."""


def find_start(config: TrainConfig, vqgan: ModelDirectory) -> Start:
    """Geometry, tokenizer and weights of a run on the codes of a VQGAN.

    Raises:
        ValueError: the pretrained model, the VQGAN and the flags do not fit together.
    """
    name = config.pretrained_model_name_or_path
    start = _pretrained(name, vqgan, config) if name else _new(config, vqgan.require_vqgan())
    if config.sequence_length not in (None, start.gpt.block_size):
        raise ValueError(
            f"--sequence-length {config.sequence_length}: the model has {start.gpt.block_size} positions"
        )
    check_expected(config.expect, vqgan=vqgan.vqgan_config, gpt=start.gpt)
    check_freeze(config.fine_tuning, start.gpt)
    return start


def _new(config: TrainConfig, vqgan: VQGANConfig) -> Start:
    tokenizer = load_tokenizer(config.vocab) if config.vocab else builtin_tokenizer()
    gpt = config.new_gpt(
        text_vocab_size=tokenizer.vocab_size, codebook_size=vqgan.codebook_size, image_len=vqgan.image_len
    )
    return Start(gpt=gpt, tokenizer=tokenizer, pretrained={"pretrained_sha256": None})


def _pretrained(name: str, vqgan: ModelDirectory, config: TrainConfig) -> Start:
    codes = vqgan.require_vqgan()
    image_len, codebook_size = codes.image_len, codes.codebook_size
    model, name = open_model(name), redact(name)
    if model.gpt_config is None:
        raise ValueError(f"--pretrained-model-name-or-path {name}: holds no GPT")
    if (model.gpt_config.image_len, model.gpt_config.codebook_size) != (image_len, codebook_size):
        raise ValueError(
            f"--pretrained-model-name-or-path {name}: writes {model.gpt_config.image_len} codes out of "
            f"{model.gpt_config.codebook_size}, the tables hold {image_len} out of {codebook_size}"
        )
    if model.vqgan_config is not None and model.vqgan_sha256() != vqgan.vqgan_sha256():
        raise ValueError(
            f"--pretrained-model-name-or-path {name}: its VQGAN (sha256 {model.vqgan_sha256()[:16]}) is not "
            f"the one that made the codes ({vqgan.vqgan_sha256()[:16]}); precompute with --vqgan {name}"
        )
    model.check_weights()
    return Start(
        gpt=with_directions(config, model.gpt_config),
        tokenizer=model.load_tokenizer(),
        pretrained={**pretrained_pins(model, config)},
    )


def _recorded(config: TrainConfig) -> dict[str, Any]:
    """The config as plan.json has it: a URL may hold credentials."""
    pretrained = config.pretrained_model_name_or_path
    return dataclasses.asdict(config) | {
        "tables": ",".join(redact(table) for table in split_tables(config.tables)),
        "checkpoint_dir": redact(config.checkpoint_dir),
        "pretrained_model_name_or_path": redact(pretrained) if pretrained else None,
    }


def _identity(config: TrainConfig, manifests: list[dict[str, Any]], start: Start) -> dict[str, Any]:
    """What must be the same when a run is resumed."""
    return {
        "stage": "train",
        "tables": [m["fingerprint"] for m in manifests],
        "tables_sha256": [content_sha256(m) for m in manifests],
        "rows": [m["rows_out"] for m in manifests],
        "gpt": start.gpt.to_json(),
        "tokenizer_sha256": start.tokenizer.sha256,
        **start.pretrained,
        **bound_settings(config),
        **config.both_ways.identity(),
    }


def as_recorded_before(
    identity: dict[str, Any], stored: dict[str, Any] | None, config: TrainConfig, tables: list[str]
) -> dict[str, Any]:
    """The identity to compare with that of a run begun before versions recorded all of it.

    Such a run names neither the content of its tables nor its precision. Both are beyond doubt if it was
    given the same tables and precision, and no table was finished after the run began; else the whole
    identity is compared, which refuses it.

    Args:
        stored: plan.json of the run, if there is one; with `began_s`, when it was written.
        tables: absolute.
    """
    if stored is None or "tables_sha256" in stored["identity"]:
        return identity
    asked = {"tables": config.tables, "precision": config.precision}
    if any(stored["config"].get(name) != value for name, value in asked.items()):
        return identity
    for table in tables:
        fs, path = filesystem(join(table, "manifest.json"))
        if fs.modified(path).timestamp() > stored["began_s"]:
            return identity
    return {name: value for name, value in identity.items() if name not in ("tables_sha256", "precision")}
