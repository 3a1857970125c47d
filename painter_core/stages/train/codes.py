"""The tables of a training: codes tables as they are, pairs tables turned into codes first.

What is made is what jobs/precompute_codes.py makes of the same table and flags, to the byte, in
CODES_DIR/train and CODES_DIR/valid; it is resumed, and has rejects and their ceiling, as there.
"""

import contextlib
import dataclasses
from dataclasses import dataclass

from painter_core.errors import Complete, Refused
from painter_core.files.storage import filesystem, join, redact
from painter_core.flag_checks import check_range
from painter_core.images.decode import Alpha, Resize
from painter_core.model_files.open import open_model
from painter_core.runs.outcome import Outcome
from painter_core.runs.ray_train import find_workers
from painter_core.runs.run_config import RunConfig
from painter_core.runs.table_run import Job
from painter_core.runs.training_run import split_tables
from painter_core.stages.codes_table import codes_manifest
from painter_core.stages.precompute_codes import PrecomputeConfig, precompute
from painter_core.stages.train.plan import dry_run, find_start, training_run
from painter_core.tables.inputs import find_files
from painter_core.training.gpt_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Flags for pairs tables in --tables; the same as those of jobs/precompute_codes.py."""

    codes_dir: str | None = None
    """Directory for the codes of pairs tables: DIR/train and DIR/valid; all workers must see it."""
    vqgan: str | None = None
    """VQGAN that makes the codes; by default the pretrained model's own, or `bundled`."""
    input_schema: str = PrecomputeConfig.input_schema
    """Columns of a TSV, in order: name:type:length."""
    first_sequence: str = RunConfig.first_sequence
    """Column of the caption."""
    second_sequence: str = PrecomputeConfig.second_sequence
    """Column of the picture."""
    skip_first_line: bool = RunConfig.skip_first_line
    """Pass over the first line of every TSV, whatever it holds."""
    resize: Resize = PrecomputeConfig.resize
    """bilinear: EasyNLP's transform; antialias: bicubic with antialiasing."""
    alpha: Alpha = PrecomputeConfig.alpha
    """What lies under transparent pixels: white, or `drop` for the hidden colour, as in EasyNLP."""
    max_reject_fraction: float = RunConfig.max_reject_fraction
    """More rejected rows of a pairs table than this share: exit code 3, nothing is trained."""

    def __post_init__(self) -> None:
        if "," in (self.codes_dir or ""):
            raise ValueError(f"--codes-dir {self.codes_dir}: a comma, which separates tables")
        check_range("--max-reject-fraction", self.max_reject_fraction, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TrainJobConfig:
    """codes tables, or pairs tables (train, valid) -> model directory."""

    train: TrainConfig
    pairs: PairsConfig


def make_codes(config: TrainJobConfig, outcome: Outcome) -> TrainConfig:
    """Makes the codes of pairs tables, if --tables names any.

    Args:
        outcome: of the process.

    Returns:
        Training's config, with codes tables only.

    Raises:
        ValueError: wrong flags or inputs, nothing was written.
        Refused: a directory holds something else.
        Stop: too many rows were rejected.
    """
    train, pairs = config.train, config.pairs
    tables = split_tables(train.tables)
    todo = [table for table in dict.fromkeys(tables) if not is_codes(table)]
    if todo or pairs.vqgan is not None:
        _check(config, todo, [table for table in tables if table not in todo])
    made: dict[str, str] = {}
    for table, part in zip(tables, ("train", "valid")[: len(tables)], strict=True):
        if table in todo and table not in made:
            made[table] = join(pairs.codes_dir or "", part)
            _make(_precompute_config(config, table, made[table]), outcome)
    if made and train.dry_run:
        start = find_start(train, open_model(_vqgan_name(config)))
        workers = find_workers(train.num_workers, train.use_gpu)
        dry_run(train, start.gpt, workers, f"{train.epoch_num:g} epochs of the codes")
    return dataclasses.replace(train, tables=",".join(made.get(t, t) for t in tables))


def is_codes(table: str) -> bool:
    """Whether a table is one of our directories, and so no pairs table."""
    fs, path = filesystem(table)
    return fs.exists(join(path, "_run", "plan.json"))


def _check(config: TrainJobConfig, todo: list[str], codes: list[str]) -> None:
    """Finds out what is wrong before hours are spent on codes."""
    train, name = config.train, _vqgan_name(config)
    for table in todo:
        find_files(table)
        if config.pairs.codes_dir is None:
            raise ValueError(
                f"--tables {redact(table)}: not a codes table. Turn pictures into codes first:\n"
                f"  python jobs/precompute_codes.py --tables {redact(table)} --outputs CODES --vqgan {name}\n"
                "and give CODES here; or give --codes-dir DIR, and this job does it"
            )
    vqgan = open_model(name)
    if vqgan.vqgan is None:
        raise ValueError(f"--vqgan {name}: this directory holds no VQGAN")
    for table in codes:
        found = codes_manifest(table)["identity"]["vqgan_sha256"]
        if found != vqgan.vqgan_sha256():
            raise ValueError(
                f"--tables {redact(table)}: its codes were made by another VQGAN (sha256 {found[:16]}) than "
                f"{name} ({vqgan.vqgan_sha256()[:16]}); see --vqgan"
            )
    training_run(train, Outcome()).check_place()
    find_start(train, vqgan)
    find_workers(train.num_workers, train.use_gpu)


def _vqgan_name(config: TrainJobConfig) -> str:
    if config.pairs.vqgan is not None:
        return config.pairs.vqgan
    name = config.train.pretrained_model_name_or_path
    return name if name and open_model(name).vqgan else PrecomputeConfig.vqgan


def _precompute_config(config: TrainJobConfig, table: str, outputs: str) -> PrecomputeConfig:
    train, pairs = config.train, config.pairs
    return PrecomputeConfig(
        run=RunConfig(
            tables=table,
            outputs=outputs,
            first_sequence=pairs.first_sequence,
            skip_first_line=pairs.skip_first_line,
            max_reject_fraction=pairs.max_reject_fraction,
            overwrite=train.overwrite,
            dry_run=train.dry_run,
            gpus_per_actor={"auto": None, "yes": 1.0, "no": 0.0}[train.use_gpu],
            precision=train.precision,
        ),
        input_schema=pairs.input_schema,
        second_sequence=pairs.second_sequence,
        vqgan=_vqgan_name(config),
        resize=pairs.resize,
        alpha=pairs.alpha,
    )


def _make(config: PrecomputeConfig, outcome: Outcome) -> None:
    job = Job("precompute", config.run, config.columns(), outcome)
    try:
        with contextlib.suppress(Complete):
            precompute(job, config)
    except Refused as error:
        raise Refused(str(error).replace("--outputs", "--codes-dir")) from None
    outcome.ended()
