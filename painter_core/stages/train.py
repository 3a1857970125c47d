"""Ray Train around painter_core.training: plan, workers, checkpoints, metrics.

The order of samples is a function of (seed, epoch) and the global batch is fixed when a run begins; the checkpoint holds
the global position. So a run that is resumed, also with another number of workers, sees every sample of the epoch once.
"""

import dataclasses
import json
import logging
import math
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from painter_core.checkpoint import ModelDirectory, open_model
from painter_core.data_order import steps_per_epoch
from painter_core.models.gpt import GPTConfig
from painter_core.stages.commit import Refused, fingerprint
from painter_core.stages.launch import cluster_resources, parse_range
from painter_core.stages.tables import read_manifest
from painter_core.storage import filesystem, is_local, join, redact, write_bytes, write_json
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
    num_workers: tuple[int, int]
    use_gpu: bool

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
    workers, use_gpu = _resources(config)
    samples = sum(p["rows"] for p in manifests[0]["parts"])
    identity = {
        "stage": "train",
        "tables": [m["fingerprint"] for m in manifests],
        "rows": [m["rows_out"] for m in manifests],
        "gpt": dataclasses.asdict(gpt),
        "tokenizer_sha256": tokenizer.sha256,
        "pretrained_sha256": pretrained.gpt_sha256() if pretrained else None,
        **{n: getattr(config, n) for n in (
            "learning_rate", "epoch_num", "weight_decay", "warmup_proportion", "max_grad_norm", "random_seed"
        )},
    }  # fmt: skip
    batch = config.micro_batch_size * workers[1] * config.gradient_accumulation_steps
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
        num_workers=workers,
        use_gpu=use_gpu,
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
            f"--pretrained-model-name-or-path {name}: its VQGAN (sha256 {pretrained.vqgan_sha256()[:16]}) is not the one "
            f"that made the codes ({vqgan.vqgan_sha256()[:16]}); precompute with --vqgan {name}"
        )
    return pretrained.gpt, pretrained.load_tokenizer()


def _resources(config: TrainConfig) -> tuple[tuple[int, int], bool]:
    available = cluster_resources()
    gpus = int(available.get("GPU", 0))
    use_gpu = gpus > 0 if config.use_gpu == "auto" else config.use_gpu == "yes"
    workers = parse_range("--num-workers", config.num_workers) or (1, 1)
    room = gpus if use_gpu else int(available["CPU"])
    if workers[0] > room:
        raise ValueError(
            f"--num-workers {workers[0]}: the cluster has {room} {'GPUs' if use_gpu else 'CPUs'}"
        )
    return (workers[0], min(workers[1], room)), use_gpu


def _take_up(plan: TrainPlan, tokenizer: Tokenizer) -> TrainPlan:
    fs, root = filesystem(plan.config.checkpoint_dir)
    file = join(root, "_run", "plan.json")
    stored = json.loads(fs.cat_file(file)) if fs.exists(file) else None
    if stored is None and fs.exists(root) and fs.ls(root):
        raise Refused(f"{root} holds files of another kind; name an empty or new --checkpoint-dir")
    changed = stored and [
        f"{k}: was {stored['identity'].get(k)!r}, is {v!r}"
        for k, v in plan.identity.items()
        if stored["identity"].get(k) != v
    ]
    if changed and not plan.config.overwrite:
        raise Refused(f"{root} holds a run with other settings ({'; '.join(changed)}); name another --checkpoint-dir, "
                      "or remove it with --overwrite")  # fmt: skip
    if changed:
        for name in (
            "_SUCCESS",
            "best",
            "last",
            "checkpoints",
            "metrics.jsonl",
            "tensorboard",
            "summary.json",
            "_run",
        ):
            if fs.exists(join(root, name)):
                fs.rm(join(root, name), recursive=True)
        stored = None
    if stored:
        if fs.exists(join(root, "_SUCCESS")):
            log.info("already complete: %s", root)
            raise SystemExit(0)
        # the batches of a run stay the same, also when it goes on with other workers
        return dataclasses.replace(plan, global_batch_size=stored["global_batch_size"])
    plan.tokenizer_dir.mkdir(parents=True)
    tokenizer.save(plan.tokenizer_dir)
    write_json(fs, file, {
        "format": 1, "stage": "train", "fingerprint": fingerprint(plan.identity), "identity": plan.identity,
        "global_batch_size": plan.global_batch_size, "config": dataclasses.asdict(plan.config),
    })  # fmt: skip
    return plan


def fit(plan: TrainPlan) -> dict[str, Any]:
    """Runs the workers to the end and returns the last metrics.

    Raises:
        RuntimeError: the loss became not finite.
    """
    import ray.train
    import ray.train.torch

    from painter_core.stages.train_worker import train_loop

    log.info(
        "train: %s samples, global batch %d, %d steps, %d..%d workers on %s", f"{plan.num_samples:,}",
        plan.global_batch_size, plan.num_steps, *plan.num_workers, "GPUs" if plan.use_gpu else "CPUs",
    )  # fmt: skip
    low, high = plan.num_workers
    trainer = ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={"plan": plan},
        scaling_config=ray.train.ScalingConfig(
            num_workers=high if low == high else (low, high),
            use_gpu=plan.use_gpu,
            resources_per_worker={"GPU": 1, "CPU": 1} if plan.use_gpu else {"CPU": 0.75},
        ),
        run_config=ray.train.RunConfig(
            # a name of its own: Ray would take up what lies under an old one without asking; we resume by ourselves
            name=uuid.uuid4().hex,
            storage_path=str(plan.root / "_run" / "ray"),
            failure_config=ray.train.FailureConfig(max_failures=3),
        ),
    )
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(plan, stop), daemon=True)
    follower.start()
    try:
        trainer.fit()
    finally:
        stop.set()
        follower.join()
    outcome = json.loads((plan.root / "_run" / "outcome.json").read_text())
    if outcome.get("error"):
        raise RuntimeError(outcome["error"])
    write_bytes(*filesystem(str(plan.root / "_SUCCESS")), b"")
    return outcome


def _follow(plan: TrainPlan, stop: threading.Event) -> None:
    """Prints the lines that rank 0 adds to metrics.jsonl."""
    path, seen, began, first = plan.root / "metrics.jsonl", 0, time.monotonic(), None
    while True:
        ending = stop.wait(1.0)
        lines = path.read_text().splitlines() if path.exists() else []
        seen = min(seen, len(lines))  # a resumed run cuts the file
        for line in lines[seen:]:
            values = json.loads(line)
            if first is None:
                first = values["step"]
            rate = (values["step"] - first) / (time.monotonic() - began) if values["step"] > first else 0.0
            eta = f", {(plan.num_steps - values['step']) / rate:.0f} s left" if rate else ""
            shown = ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k in SHOWN)
            log.info("train: step %d of %d, %s%s", values["step"], plan.num_steps, shown, eta)
        seen = len(lines)
        if ending:
            return


SHOWN = ("train_loss", "valid_loss", "lr", "samples_per_s")


def write_summary(plan: TrainPlan, code: int, message: str, outcome: dict[str, Any], seconds: float) -> None:
    """summary.json: how the run ended."""
    fs, root = filesystem(plan.config.checkpoint_dir)
    summary = {
        "stage": "train", "exit_code": code, "message": message, "seconds": round(seconds, 3),
        "global_batch_size": plan.global_batch_size, "num_steps": plan.num_steps, **outcome,
        "next": "" if code == 0 else "submit the same command again to resume",
    }  # fmt: skip
    write_json(fs, join(root, "summary.json"), summary)


def threads_of_a_worker(num_workers: int) -> int:
    """CPU threads of one of the workers of a node."""
    return max(1, (os.cpu_count() or 1) // num_workers)
