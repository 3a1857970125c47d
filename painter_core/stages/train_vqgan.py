"""Ray Train around painter_core.vqgan_training: plan, workers, checkpoints, metrics.

As in painter_core.stages.train, the order of pictures is a function of (seed, epoch) and the checkpoint holds
the global position. Rows of a global batch that are left over at the end of an epoch are passed over, so that
all ranks see batches of one size.
"""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from painter_core.checkpoint import open_model
from painter_core.models.vqgan import VQGANConfig
from painter_core.stages.commit import Refused, fingerprint
from painter_core.stages.launch import name_for_workers
from painter_core.stages.ray_train import Workers, find_workers, run_workers
from painter_core.stages.tables import Columns, find_files, parse_input_schema
from painter_core.storage import absolute, filesystem, is_local, join, write_json
from painter_core.vqgan_training import VQGANTrainConfig

log = logging.getLogger(__name__)

NOT_IDENTITY = (
    "outputs",
    "tables",
    "num_workers",
    "use_gpu",
    "compile",
    "overwrite",
    "logging_steps",
    "save_checkpoint_steps",
    "keep_checkpoints",
    "max_reject_fraction",
    "geometry",
    "micro_batch_size",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQGANPlan:
    """What a run is to do: made by the driver, read by every worker."""

    config: VQGANTrainConfig
    vqgan: VQGANConfig
    train_table: str
    valid_table: str | None
    identity: dict[str, Any]
    global_batch_size: int
    workers: Workers

    @property
    def root(self) -> Path:
        """--outputs."""
        return Path(filesystem(self.config.outputs)[1])

    @property
    def columns(self) -> Columns:
        """What is read of the tables."""
        return Columns(schema=parse_input_schema(self.config.input_schema), image=self.config.second_sequence)


def make_plan(config: VQGANTrainConfig) -> VQGANPlan:
    """Checks tables, weights and resources; writes _run/plan.json, or takes it up again.

    Raises:
        ValueError: wrong flags or inputs, nothing was written.
        Refused: --outputs holds a run with other settings.
        SystemExit: the run is complete already.
    """
    if not is_local(config.outputs):
        raise ValueError(f"--outputs {config.outputs}: a path that all nodes see is needed, not a URL")
    # workers have another working directory
    start_name = name_for_workers(config.vqgan) if config.vqgan else None
    config = dataclasses.replace(config, outputs=absolute(config.outputs), vqgan=start_name)
    tables = [absolute(t.strip()) for t in config.tables.split(",")]
    if len(tables) > 2:
        raise ValueError(f"--tables: got {len(tables)} tables, expected TRAIN or TRAIN,VALID")
    files = [find_files(t) for t in tables]
    start = open_model(config.vqgan) if config.vqgan else None
    geometry = start.vqgan if start else config.geometry
    if geometry is None:
        raise ValueError(f"--vqgan {config.vqgan}: holds no VQGAN")
    workers = find_workers(config.num_workers, config.use_gpu)
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in NOT_IDENTITY}
    identity = {
        "stage": "train_vqgan",
        "tables": [[(f.path, f.size_bytes, f.version) for f in group] for group in files],
        "geometry": dataclasses.asdict(geometry),
        "start_sha256": start.vqgan_sha256() if start else None,
        **settings,
    }
    plan = VQGANPlan(
        config=config,
        vqgan=geometry,
        train_table=tables[0],
        valid_table=tables[1] if len(tables) > 1 else None,
        identity=json.loads(json.dumps(identity)),
        global_batch_size=config.micro_batch_size * workers.most,
        workers=workers,
    )
    return _take_up(plan)


def _take_up(plan: VQGANPlan) -> VQGANPlan:
    from painter_core.stages.train import changed_settings, clear_training

    fs, root = filesystem(plan.config.outputs)
    file = join(root, "_run", "plan.json")
    stored = json.loads(fs.cat_file(file)) if fs.exists(file) else None
    if stored is None and fs.exists(root) and fs.ls(root):
        raise Refused(f"{root} holds files of another kind; name an empty or new --outputs")
    if stored and (changed := changed_settings(stored["identity"], plan.identity)):
        if not plan.config.overwrite:
            raise Refused(
                f"{root} holds a run with other settings ({changed}); name another --outputs, or use "
                "--overwrite"
            )
        clear_training(fs, root)
        stored = None
    if stored:
        if fs.exists(join(root, "_SUCCESS")):
            log.info("already complete: %s", root)
            raise SystemExit(0)
        return dataclasses.replace(plan, global_batch_size=stored["global_batch_size"])
    write_json(
        fs,
        file,
        {
            "format": 1,
            "stage": "train_vqgan",
            "fingerprint": fingerprint(plan.identity),
            "identity": plan.identity,
            "global_batch_size": plan.global_batch_size,
        },
    )
    return plan


def fit(plan: VQGANPlan) -> dict[str, Any]:
    """Runs the workers to the end and returns the last metrics."""
    from painter_core.stages.train_vqgan_worker import train_loop

    log.info(
        "train_vqgan: %s, global batch %d, %d steps",
        plan.vqgan,
        plan.global_batch_size,
        plan.config.max_steps,
    )
    return run_workers(train_loop, plan, plan.root, plan.workers, num_steps=plan.config.max_steps)
