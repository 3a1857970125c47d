"""Flags that several jobs share, declared once: nested in each job's config, without a prefix."""

from dataclasses import dataclass
from typing import Literal

from painter_core.flag_checks import check_range
from painter_core.runs.cluster import Cluster, GpuWait, parse_range
from painter_core.tables.columns import Columns, Encoding, Quoting

PROMPTS_SCHEMA = "idx:str:1,text:str:1"
PAIRS_SCHEMA = "idx:str:1,text:str:1,imgbase64:str:1"
OUTPUTS_SCHEMA = "idx:str:1,text:str:1,gen_imgbase64:str:1"


@dataclass(frozen=True, kw_only=True)
class TableFlags:
    """Flags of every job that turns a table into a table."""

    tables: str
    """Input: a file, directory or glob, or several with commas between; local paths or URLs (s3://, gs://,
    oss://)."""
    outputs: str
    """Output: a directory of Parquet parts, or one file X.tsv or X.parquet with its run directory X.tsv.run
    beside it."""
    max_reject_fraction: float = 0.01
    """More rejected rows than this share: exit code 3, no manifest."""
    keep_rejected: bool = False
    """Keep picture cell and whole caption of rejected rows in the rejects table."""
    overwrite: bool = False
    """Replace what an earlier run with other settings wrote to --outputs; it stays until the new one is
    complete."""
    dry_run: bool = False
    """Check inputs, models and settings, do 50 rows here, estimate time and size; write nothing."""
    limit: int | None = None
    """Only the first N rows."""

    def __post_init__(self) -> None:
        check_range("--max-reject-fraction", self.max_reject_fraction, 0, 1)
        check_range("--limit", self.limit, 1, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class PromptFlags:
    """Columns of a table of captions."""

    input_schema: str = PROMPTS_SCHEMA
    """Columns of a TSV, in order: name:type:length."""
    idx_column: str = "idx"
    """Column of the row's key, or `row` for row numbers; a table without a column `idx` has none."""
    first_sequence: str = "text"
    """Column of the caption."""
    skip_first_line: bool = False
    """Pass over the first line of every TSV, whatever it holds; one equal to the schema's names is known as a
    header without this."""
    quoting: Quoting = "none"
    """none: quotes in a TSV are text; csv: a cell may stand in quotes, as spreadsheets write them."""
    encoding: Encoding = "utf-8"
    """Encoding of a TSV: utf-8, or gb18030, which reads GBK and GB2312 too."""

    def columns(self, extra: tuple[str, ...] = (), *, picture: str | None = None) -> Columns:
        """What is read; `extra` columns are carried through, `picture` is the column of one."""
        return Columns.of_flags(
            self.input_schema,
            idx_column=self.idx_column,
            first_sequence=self.first_sequence,
            second_sequence=picture,
            extra=extra,
            skip_first_line=self.skip_first_line,
            quoting=self.quoting,
            encoding=self.encoding,
        )


@dataclass(frozen=True, kw_only=True)
class PairFlags:
    """Columns of a table of captions and pictures."""

    input_schema: str = PAIRS_SCHEMA
    """Columns of a TSV, in order: name:type:length."""
    idx_column: str = "idx"
    """Column of the row's key, or `row` for row numbers; a table without a column `idx` has none."""
    first_sequence: str = "text"
    """Column of the caption."""
    second_sequence: str = "imgbase64"
    """Column of the picture."""
    skip_first_line: bool = False
    """Pass over the first line of every TSV, whatever it holds; one equal to the schema's names is known as a
    header without this."""
    quoting: Quoting = "none"
    """none: quotes in a TSV are text; csv: a cell may stand in quotes, as spreadsheets write them."""
    encoding: Encoding = "utf-8"
    """Encoding of a TSV: utf-8, or gb18030, which reads GBK and GB2312 too."""

    def columns(self) -> Columns:
        """What is read."""
        return Columns.of_flags(
            self.input_schema,
            idx_column=self.idx_column,
            first_sequence=self.first_sequence,
            second_sequence=self.second_sequence,
            skip_first_line=self.skip_first_line,
            quoting=self.quoting,
            encoding=self.encoding,
        )


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """How a table job runs its model."""

    micro_batch_size: int | None = None
    """Rows a model call; by default 128 on a GPU (512 when painting), 16 on a CPU (64 when painting a table
    of 512 pictures and more), fewer where memory is short."""
    num_actors: str | None = None
    """Model workers: N, or MIN,MAX; by default one a GPU, or one a CPU where there is no GPU."""
    gpus_per_actor: float | None = None
    """GPUs a model worker; by default 1 if the cluster has GPUs, else 0."""
    wait_for_gpus: float = 0.0
    """Seconds in which a cluster may get the GPUs that --num-actors and --gpus-per-actor want (one, without
    them), for clusters that start their nodes on demand; then, and in a run that lost its last GPU."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Precision of the model's products: fp32, tf32 (GPUs only) or bf16; auto: bf16 on a GPU, fp32 on a CPU,
    but when painting bf16 on CPUs with AMX. Stated in the log and in the manifest."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the model; auto: on GPUs, from 20,000 pictures a GPU on, 10,000 when painting, if it
    works there. On a CPU `on` compiles the VQGAN alone: plain steps of sampling are faster there. Stated in
    the log and in the manifest."""
    graphs: Literal["auto", "on", "off"] = "auto"
    """CUDA graphs of the sampling's steps, with which a GPU waits less; auto: on a GPU, if they work there.
    What came of it is in the log, the commit records and the manifest."""

    def __post_init__(self) -> None:
        check_range("--micro-batch-size", self.micro_batch_size, 1, 65536)
        check_range("--gpus-per-actor", self.gpus_per_actor, 0, 64)
        parse_range("--num-actors", self.num_actors)
        check_range("--wait-for-gpus", self.wait_for_gpus, 0, 7 * 86400)

    def gpu_wait(self) -> GpuWait | None:
        """What the cluster is given time for; None for nothing."""
        least, _ = parse_range("--num-actors", self.num_actors) or (1, 1)
        wanted = 1.0 if self.gpus_per_actor is None else self.gpus_per_actor
        if not (self.wait_for_gpus and wanted):
            return None
        return GpuWait(gpus=least * wanted, seconds=self.wait_for_gpus)

    def uses_gpu(self, cluster: Cluster) -> bool:
        """Whether model workers get a GPU; ValueError if there is none for them."""
        wanted = self.gpus_per_actor
        if wanted and wanted > cluster.gpus:
            raise ValueError(f"--gpus-per-actor {wanted}: the cluster has {cluster.gpus:g} GPUs")
        return cluster.gpus > 0 if wanted is None else wanted > 0
