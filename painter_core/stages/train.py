"""Ray Train around painter_core.training: plan, workers, checkpoints, metrics.

The order of samples is a function of (seed, epoch) and the global batch is fixed when a run begins; the
checkpoint holds the global position. So a run that is resumed, also with another number of workers, sees
every sample of the epoch once.
"""

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

from painter_core.checkpoint import ModelDirectory, open_model
from painter_core.data_order import steps_per_epoch
from painter_core.models.gpt import GPTConfig
from painter_core.stages.commit import Refused, fingerprint
from painter_core.stages.ray_train import Workers, find_workers, run_workers
from painter_core.stages.tables import read_manifest
from painter_core.storage import filesystem, is_local, join, redact, write_json
from painter_core.tokenizer import Tokenizer, builtin_tokenizer, load_tokenizer
from painter_core.training import TrainConfig

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a run is to do: made by the driver, read by every worker."""

    config: TrainConfig
    gpt: GPTConfig
    train_table: str
    valid_table: str | None
    identity: dict[str, Any]
    """What must be the same when the run is taken up again."""
    global_batch_size: int
    num_samples: int
    workers: Workers

    @property
    def root(self) -> Path:
        """--checkpoint-dir."""
        return Path(filesystem(self.config.checkpoint_dir)[1])

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""
        return steps_per_epoch(self.num_samples, self.global_batch_size)

    @property
    def num_steps(self) -> int:
        """Updates of the whole run."""
        return max(1, math.ceil(self.steps_per_epoch * self.config.epoch_num))

    @property
    def tokenizer_dir(self) -> Path:
        """Where the driver saved the tokenizer."""
        return self.root / "_run" / "tokenizer"

    @property
    def vqgan_dir(self) -> str:
        """The VQGAN that made the codes."""
        return join(self.train_table, "_run", "vqgan")


def make_plan(config: TrainConfig) -> TrainPlan:
    """Checks tables, model and resources; writes _run/plan.json, or takes it up again.

    Raises:
        ValueError: wrong flags or inputs, nothing was written.
        Refused: --checkpoint-dir holds a run with other settings.
        SystemExit: the run is complete already.
    """
    if not is_local(config.checkpoint_dir):
        raise ValueError(
            f"--checkpoint-dir {config.checkpoint_dir}: a path that all nodes see is needed, not a URL"
        )
    tables = [t.strip() for t in config.tables.split(",")]
    if len(tables) > 2:
        raise ValueError(f"--tables: got {len(tables)} tables, expected TRAIN or TRAIN,VALID")
    manifests = [codes_manifest(t) for t in tables]
    if len({m["identity"]["vqgan_sha256"] for m in manifests}) > 1:
        shas = " and ".join(m["identity"]["vqgan_sha256"][:16] for m in manifests)
        raise ValueError(
            f"--tables: the codes were made by different VQGANs (sha256 {shas}); compute one of them again"
        )
    vqgan = open_model(join(tables[0], "_run", "vqgan"))
    pretrained = (
        open_model(config.pretrained_model_name_or_path) if config.pretrained_model_name_or_path else None
    )
    gpt, tokenizer = _model(config, vqgan, pretrained)
    if config.sequence_length not in (None, gpt.block_size):
        raise ValueError(
            f"--sequence-length {config.sequence_length}: the model has {gpt.block_size} positions"
        )
    workers = find_workers(config.num_workers, config.use_gpu)
    samples = sum(p["rows"] for p in manifests[0]["parts"])
    identity = {
        "stage": "train",
        "tables": [m["fingerprint"] for m in manifests],
        "rows": [m["rows_out"] for m in manifests],
        "gpt": dataclasses.asdict(gpt),
        "tokenizer_sha256": tokenizer.sha256,
        "pretrained_sha256": pretrained.gpt_sha256() if pretrained else None,
        **{
            n: getattr(config, n)
            for n in (
                "learning_rate",
                "epoch_num",
                "weight_decay",
                "warmup_proportion",
                "max_grad_norm",
                "random_seed",
            )
        },
    }
    batch = config.micro_batch_size * workers.most * config.gradient_accumulation_steps
    if samples < 1:
        raise ValueError(f"--tables {tables[0]}: no rows")
    plan = TrainPlan(
        config=config,
        gpt=gpt,
        train_table=tables[0],
        valid_table=tables[1] if len(tables) > 1 else None,
        identity=json.loads(json.dumps(identity)),
        global_batch_size=min(batch, samples),
        num_samples=samples,
        workers=workers,
    )
    return _take_up(plan, tokenizer)


def codes_manifest(table: str) -> dict[str, Any]:
    """The manifest of a finished codes table.

    Raises:
        ValueError: something else; says which command makes codes of a pairs table.
    """
    fs, path = filesystem(table)
    if fs.exists(path) and not fs.exists(join(path, "_run", "plan.json")):
        raise ValueError(
            f"--tables {redact(table)}: not a codes table. Turn pictures into codes first:\n"
            f"  python jobs/precompute_codes.py --tables {redact(table)} --outputs CODES_DIR\n"
            "and give CODES_DIR here"
        )
    manifest = read_manifest(table)
    if manifest.get("table") != "codes":
        raise ValueError(f"--tables {redact(table)}: a table of {manifest.get('table')}, expected codes")
    return manifest


def _model(
    config: TrainConfig, vqgan: ModelDirectory, pretrained: ModelDirectory | None
) -> tuple[GPTConfig, Tokenizer]:
    assert vqgan.vqgan is not None
    image_len, codebook_size = vqgan.vqgan.image_len, vqgan.vqgan.codebook_size
    if pretrained is None:
        tokenizer = load_tokenizer(config.vocab) if config.vocab else builtin_tokenizer()
        return config.new_gpt(
            text_vocab_size=tokenizer.vocab_size, codebook_size=codebook_size, image_len=image_len
        ), tokenizer
    name = config.pretrained_model_name_or_path
    if pretrained.gpt is None:
        raise ValueError(f"--pretrained-model-name-or-path {name}: holds no GPT")
    if (pretrained.gpt.image_len, pretrained.gpt.codebook_size) != (image_len, codebook_size):
        raise ValueError(
            f"--pretrained-model-name-or-path {name}: writes {pretrained.gpt.image_len} codes out of "
            f"{pretrained.gpt.codebook_size}, the tables hold {image_len} out of {codebook_size}"
        )
    if pretrained.vqgan is not None and pretrained.vqgan_sha256() != vqgan.vqgan_sha256():
        raise ValueError(
            f"--pretrained-model-name-or-path {name}: its VQGAN (sha256 "
            f"{pretrained.vqgan_sha256()[:16]}) is not the one "
            f"that made the codes ({vqgan.vqgan_sha256()[:16]}); precompute with --vqgan {name}"
        )
    return pretrained.gpt, pretrained.load_tokenizer()


def _take_up(plan: TrainPlan, tokenizer: Tokenizer) -> TrainPlan:
    fs, root = filesystem(plan.config.checkpoint_dir)
    file = join(root, "_run", "plan.json")
    stored = json.loads(fs.cat_file(file)) if fs.exists(file) else None
    if stored is None and fs.exists(root) and fs.ls(root):
        raise Refused(f"{root} holds files of another kind; name an empty or new --checkpoint-dir")
    if stored and (changed := changed_settings(stored["identity"], plan.identity)):
        if not plan.config.overwrite:
            raise Refused(
                f"{root} holds a run with other settings ({changed}); name another --checkpoint-dir, "
                "or remove it "
                "with --overwrite"
            )
        clear_training(fs, root)
        stored = None
    if stored:
        if fs.exists(join(root, "_SUCCESS")):
            log.info("already complete: %s", root)
            raise SystemExit(0)
        # the batches of a run stay the same, also when it goes on with other workers
        return dataclasses.replace(plan, global_batch_size=stored["global_batch_size"])
    plan.tokenizer_dir.mkdir(parents=True)
    tokenizer.save(plan.tokenizer_dir)
    write_json(
        fs,
        file,
        {
            "format": 1,
            "stage": "train",
            "fingerprint": fingerprint(plan.identity),
            "identity": plan.identity,
            "global_batch_size": plan.global_batch_size,
            "config": dataclasses.asdict(plan.config),
        },
    )
    return plan


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two identities, for a person; empty if nothing does."""
    return "; ".join(f"{k}: was {old.get(k)!r}, is {v!r}" for k, v in new.items() if old.get(k) != v)


def clear_training(fs: Any, root: str) -> None:
    """Removes what a training run of ours wrote, and nothing else."""
    names = (
        "_SUCCESS",
        "best",
        "last",
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
        "summary.json",
        "_run",
    )
    for name in names:
        if fs.exists(join(root, name)):
            fs.rm(join(root, name), recursive=True)


def fit(plan: TrainPlan) -> dict[str, Any]:
    """Runs the workers to the end and returns the last metrics."""
    from painter_core.stages.train_worker import train_loop

    log.info(
        "train: %s samples, global batch %d, %d steps",
        f"{plan.num_samples:,}",
        plan.global_batch_size,
        plan.num_steps,
    )
    return run_workers(train_loop, plan, plan.root, plan.workers, num_steps=plan.num_steps)
