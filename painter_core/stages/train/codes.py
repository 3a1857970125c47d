"""The tables of a training: codes tables as they are, pairs tables turned into codes first.

What is made is what jobs/precompute_codes.py makes of the same table and flags, to the byte, in
CODES_DIR/train and CODES_DIR/valid; it is resumed, and has rejects and their ceiling, as there.
"""

import dataclasses
from dataclasses import dataclass, field

from painter_core.files.storage import filesystem, join, redact
from painter_core.flag_checks import check_range, refuse_unused
from painter_core.images.decode import Alpha, Resize
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPTConfig
from painter_core.runs.cluster import Cluster
from painter_core.runs.flags import ModelFlags, PairFlags, TableFlags
from painter_core.runs.ray_train import Workers, find_workers
from painter_core.runs.run import Run
from painter_core.runs.training_run import split_tables
from painter_core.stages.codes_table import codes_manifest
from painter_core.stages.precompute_codes import PrecomputeConfig, make_codes
from painter_core.stages.train.plan import find_start, training_run
from painter_core.stages.train.previews import PreviewFlags
from painter_core.stages.views import ViewFlags
from painter_core.tables.inputs import find_files
from painter_core.tables.run_directory import table_url
from painter_core.tables.search import lies_in
from painter_core.text.prompt_style import PromptStyle
from painter_core.training.gpt_config import TrainConfig

GPUS_PER_ACTOR = {"auto": None, "yes": 1.0, "no": 0.0}  # of --use-gpu


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Flags for pairs tables in --tables; the same as those of jobs/precompute_codes.py."""

    codes_dir: str | None = None
    """Directory for the codes of pairs tables: DIR/train and DIR/valid; all workers must see it."""
    vqgan: str | None = None
    """VQGAN that makes the codes; by default the pretrained model's own, or `bundled`."""
    input: PairFlags = field(default_factory=PairFlags)
    resize: Resize = PrecomputeConfig.resize
    """bilinear: EasyNLP's transform; antialias: bicubic with antialiasing."""
    alpha: Alpha = PrecomputeConfig.alpha
    """What lies under transparent pixels: white, or `drop` for the hidden colour, as in EasyNLP."""
    views: ViewFlags = field(default_factory=ViewFlags)
    max_reject_fraction: float = TableFlags.max_reject_fraction
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
    previews: PreviewFlags = field(default_factory=PreviewFlags)
    style: PromptStyle = field(default_factory=PromptStyle)

    def __post_init__(self) -> None:
        for table in split_tables(self.train.tables) if self.pairs.codes_dir else ():
            if lies_in(self.pairs.codes_dir or "", table):
                raise ValueError(
                    f"--codes-dir {redact(self.pairs.codes_dir or '')} lies in --tables {redact(table)}, "
                    "where the codes would be taken for pictures; name another directory"
                )

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {
            "--tables": self.train.tables,
            "--checkpoint-dir": self.train.checkpoint_dir,
            "--codes-dir": self.pairs.codes_dir,
            "--preview-table": self.previews.preview_table,
        }


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """What is known of a training whose codes are not made: geometry and workers."""

    gpt: GPTConfig
    workers: Workers


@dataclass(frozen=True, kw_only=True)
class Made:
    """The tables of a training."""

    config: TrainConfig
    """Training's config, with codes tables only."""
    sketch: Sketch | None = None
    """In a dry run over pairs tables, which makes no codes."""


def make_tables(config: TrainJobConfig, run: Run, cluster: Cluster) -> Made:
    """Makes the codes of pairs tables, if --tables names any.

    Raises:
        ValueError: wrong flags or inputs, nothing was written.
        Refused: a directory holds something else.
        Stop: too many rows were rejected.
    """
    train, pairs = config.train, config.pairs
    tables = [table_url(table) for table in split_tables(train.tables)]
    todo = [table for table in dict.fromkeys(tables) if not is_codes(table)]
    if todo or pairs.vqgan is not None:
        _check(config, cluster, todo, [table for table in tables if table not in todo])
    if not todo:
        made_before = "where all --tables hold codes already"
        refuse_unused(pairs, ("codes_dir", "resize", "alpha", "max_reject_fraction"), made_before)
        refuse_unused(pairs.views, ("variants", "augment"), made_before)
    made: dict[str, str] = {}
    for table, part in zip(tables, ("train", "valid")[: len(tables)], strict=True):
        if table in todo and table not in made:
            made[table] = join(pairs.codes_dir or "", part)
            # a validation is on the pictures as they are
            views = pairs.views if part == "train" else ViewFlags()
            codes = _precompute_config(config, table, made[table], views)
            make_codes(codes, run, cluster, outputs_flag="--codes-dir")
            run.ended()
    if made and train.run.dry_run:
        start = find_start(train, open_model(_vqgan_name(config)))
        return Made(config=train, sketch=Sketch(gpt=start.gpt, workers=find_workers(train.run, cluster)))
    return Made(config=dataclasses.replace(train, tables=",".join(made.get(t, t) for t in tables)))


def is_codes(table: str) -> bool:
    """Whether a table is one of our directories, and so no pairs table."""
    fs, path = filesystem(table)
    return fs.exists(join(path, "_run", "plan.json"))


def _check(config: TrainJobConfig, cluster: Cluster, todo: list[str], codes: list[str]) -> None:
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
    if vqgan.vqgan_config is None:
        raise ValueError(f"--vqgan {name}: this directory holds no VQGAN")
    for table in codes:
        found = codes_manifest(table)["identity"]["vqgan_sha256"]
        if found != vqgan.vqgan_sha256():
            raise ValueError(
                f"--tables {redact(table)}: its codes were made by another VQGAN (sha256 {found[:16]}) than "
                f"{name} ({vqgan.vqgan_sha256()[:16]}); see --vqgan"
            )
    training_run(train, Run({}))
    find_start(train, vqgan)
    find_workers(train.run, cluster)


def _vqgan_name(config: TrainJobConfig) -> str:
    if config.pairs.vqgan is not None:
        return config.pairs.vqgan
    name = config.train.pretrained_model_name_or_path
    return name if name and open_model(name).vqgan_config else PrecomputeConfig.vqgan


def _precompute_config(
    config: TrainJobConfig, table: str, outputs: str, views: ViewFlags
) -> PrecomputeConfig:
    train, pairs = config.train, config.pairs
    return PrecomputeConfig(
        table=TableFlags(
            tables=table,
            outputs=outputs,
            max_reject_fraction=pairs.max_reject_fraction,
            overwrite=train.run.overwrite,
            dry_run=train.run.dry_run,
        ),
        input=pairs.input,
        model=ModelFlags(gpus_per_actor=GPUS_PER_ACTOR[train.run.use_gpu], precision=train.precision),
        vqgan=_vqgan_name(config),
        resize=pairs.resize,
        alpha=pairs.alpha,
        views=views,
        random_seed=train.run.random_seed if views.variants > 1 else PrecomputeConfig.random_seed,
    )
