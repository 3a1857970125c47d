"""Ray Train around painter_core.training.vqgan: plan, workers, checkpoints, metrics.

As with the GPT, the order of pictures is a function of (seed, epoch) and the checkpoint holds the global
position. Rows of a global batch that are left over at the end of an epoch are passed over, so that all ranks
see batches of one size.
"""

import dataclasses
import logging
from typing import Any

from painter_core.files.storage import absolute, file_sha256, redact
from painter_core.model_files.directory import ModelDirectory, weights_bytes
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.perceptual import MIN_SIDE_PX
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.runs.cluster import Cluster
from painter_core.runs.gpus import settle_compile
from painter_core.runs.ray_train import Workers, find_workers
from painter_core.runs.run import Run
from painter_core.runs.training_run import TrainingRun, split_tables
from painter_core.tables.columns import Columns, parse_input_schema
from painter_core.tables.inputs import InputFile, find_files
from painter_core.tables.units import plan_units
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files
from painter_core.training.run_flags import bound_settings
from painter_core.training.vqgan import check_trainable
from painter_core.training.vqgan_config import VQGANTrainConfig

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQGANPlan:
    """What a run is to do: made by the driver, read by every worker."""

    config: VQGANTrainConfig
    root: str
    """Where it writes, as a path or URL: --outputs, or what stands beside it and will replace it."""
    vqgan: VQGANConfig
    columns: Columns
    """What is read of the tables."""
    train_table: str
    valid_table: str | None
    identity: dict[str, Any]
    global_batch_size: int
    workers: Workers


def make_plan(config: VQGANTrainConfig, run: Run, cluster: Cluster) -> tuple[VQGANPlan, TrainingRun] | None:
    """Checks tables, weights and resources; writes _run/plan.json, or takes it up again.

    Args:
        config: as given.
        run: of the process.
        cluster: what the workers run on.

    Returns:
        The plan, and the run that its workers' results end; None if the run is complete.

    Raises:
        ValueError: wrong flags or inputs, nothing was written.
        Refused: --outputs holds a run with other settings.
    """
    training = TrainingRun("train_vqgan", "--outputs", absolute(config.outputs), run)
    config = _for_workers(config)
    tables = [absolute(table) for table in split_tables(config.tables)]
    start = _find_start(config)
    geometry = start.require_vqgan() if start else config.geometry
    check_trainable(geometry, decoder_only=config.decoder_only)
    config, perceptual_sha256 = _find_perceptual(config, geometry)
    workers = find_workers(config.run, cluster)
    config = dataclasses.replace(config, run=settle_compile(config.run, use_gpu=workers.use_gpu))
    batch = config.micro_batch_size * workers.most
    columns = _columns(config, training.stored())
    files = _find_rows(columns, tables, batch)
    stored = training.take_up(
        _identity(config, columns, files, geometry, start, perceptual_sha256),
        {"global_batch_size": batch},
        config.run,
        needed_bytes=(config.run.keep_checkpoints + 1) * 5 * weights_bytes(VQGAN, geometry),
        reads=[*tables, config.vqgan or "", *(config.perceptual_weights or "").split(",")],
    )
    if stored is None:
        return None
    plan = VQGANPlan(
        config=config,
        root=training.root,
        vqgan=geometry,
        columns=columns,
        train_table=tables[0],
        valid_table=tables[1] if len(tables) > 1 else None,
        identity=stored["identity"],
        global_batch_size=stored["global_batch_size"],
        workers=workers,
    )
    return plan, training


def _identity(
    config: VQGANTrainConfig,
    columns: Columns,
    files: list[list[InputFile]],
    geometry: VQGANConfig,
    start: ModelDirectory | None,
    perceptual_sha256: list[str] | None,
) -> dict[str, Any]:
    """What must be the same when a run is resumed."""
    return {
        "stage": "train_vqgan",
        **bound_settings(config),
        "tables": [recorded_files(group) for group in files],
        "geometry": geometry.to_json(),
        "start_sha256": start.vqgan_sha256() if start else None,
        "perceptual_sha256": perceptual_sha256,
        **({} if columns.text else {"reads": "pictures"}),
        **({} if columns.encoding == "utf-8" else {"encoding": columns.encoding}),
    }


def recorded_files(files: list[InputFile]) -> list[list[Any]]:
    """The files of a table as a plan records them: a path may hold credentials."""
    return [[redact(file.path), file.size_bytes, file.version] for file in files]


def _for_workers(config: VQGANTrainConfig) -> VQGANTrainConfig:
    """Relative paths made absolute, since workers have another working directory."""
    start = name_for_workers(config.vqgan) if config.vqgan else None
    return dataclasses.replace(config, outputs=absolute(config.outputs), vqgan=start)


def _find_start(config: VQGANTrainConfig) -> ModelDirectory | None:
    """The VQGAN to begin with, its weights checked; None for a new one."""
    if config.vqgan is None:
        return None
    start = open_model(config.vqgan)
    if start.vqgan_config is None:
        raise ValueError(f"--vqgan {config.vqgan}: holds no VQGAN")
    start.check_weights()
    return start


def _find_perceptual(
    config: VQGANTrainConfig, geometry: VQGANConfig
) -> tuple[VQGANTrainConfig, list[str] | None]:
    """The config with absolute paths, and the sha256 of each file; ValueError if the files will not do."""
    if config.perceptual_weights is None:
        return config, None
    if geometry.image_size < MIN_SIDE_PX:
        raise ValueError(
            f"--perceptual-weights: for pictures of at least {MIN_SIDE_PX} px, got {geometry.image_size}"
        )
    files = perceptual_files(config.perceptual_weights)
    load_perceptual(files)  # what is wrong with them is said before anything is written
    names = ",".join(map(str, files))
    return dataclasses.replace(config, perceptual_weights=names), [file_sha256(file) for file in files]


def _find_rows(columns: Columns, tables: list[str], batch: int) -> list[list[InputFile]]:
    """The files of each table, their columns checked; ValueError if one global batch has more rows."""
    files = [find_files(table) for table in tables]
    for table, group in zip(tables, files, strict=True):
        units = plan_units(group, columns, micro_batch_size=1, limit=None)
        rows, size = sum(u.num_rows for u in units), sum(f.size_bytes for f in group)
        log.info("%s: %d files, %s bytes, %s rows", redact(table), len(group), f"{size:,}", f"{rows:,}")
        if table == tables[0] and rows < batch:
            raise ValueError(
                f"--tables {redact(table)}: {rows} rows are fewer than one global batch ({batch}); use a "
                "smaller --micro-batch-size"
            )
    return files


def _columns(config: VQGANTrainConfig, stored: dict[str, Any] | None) -> Columns:
    """What is read of the tables: pictures need neither idx nor caption.

    A run that was begun by a version which set rows without them aside goes on with the pictures that it
    began with.
    """
    if stored is not None and "reads" not in stored["identity"]:
        return Columns(schema=parse_input_schema(config.input_schema), image=config.second_sequence)
    return Columns.of_flags(
        config.input_schema,
        idx_column="row",
        first_sequence=None,
        second_sequence=config.second_sequence,
        encoding=config.encoding,
    )
