"""Flags of jobs/upscale.py."""

from dataclasses import dataclass, field

from painter_core.flag_checks import refuse_unused
from painter_core.images.decode import ImageFormat
from painter_core.runs.flags import OUTPUTS_SCHEMA, ModelFlags, TableFlags
from painter_core.tables.columns import Encoding, Quoting
from painter_core.upscaling.flags import UpscaleFlags
from schemas import outputs


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """table of pictures -> the same table, its pictures larger."""

    table: TableFlags
    upscaling: UpscaleFlags = field(default_factory=UpscaleFlags)
    second_sequence: str = outputs.IMAGE_COLUMN
    """Column of the picture; all other columns are carried on as they are."""
    idx_column: str = "idx"
    """Column of the row's key, or `row` for row numbers; a table without a column `idx` has none."""
    input_schema: str = OUTPUTS_SCHEMA
    """Columns of a TSV, in order: name:type:length. Of a TSV that generate.py wrote they are known."""
    skip_first_line: bool = False
    """Pass over the first line of every TSV, whatever it holds; one equal to the schema's names is known as a
    header without this."""
    quoting: Quoting = "none"
    """none: quotes in a TSV are text; csv: a cell may stand in quotes, as spreadsheets write them."""
    encoding: Encoding = "utf-8"
    """Encoding of a TSV: utf-8, or gb18030, which reads GBK and GB2312 too."""
    image_format: ImageFormat = "png"
    """png and webp are lossless, jpeg has quality 90."""
    num_actors: str | None = None
    """With --upscaler FILE: workers, N or MIN,MAX; by default one a GPU, or one a CPU where there is none."""
    gpus_per_actor: float | None = None
    """With --upscaler FILE: GPUs a worker; by default 1 if the cluster has GPUs, else 0."""
    wait_for_gpus: float = 0.0
    """With --upscaler FILE: seconds in which a cluster may get the GPUs that --num-actors and
    --gpus-per-actor want (one, without them), for clusters that start their nodes on demand."""

    def __post_init__(self) -> None:
        if not self.upscaling.wanted:
            raise ValueError(
                "--upscale: not given, expected 2 or 4; or --upscaler FILE, which says it itself"
            )
        if self.upscaling.file is None:
            refuse_unused(self, ["num_actors", "gpus_per_actor", "wait_for_gpus"], "without --upscaler FILE")
        _ = self.model_flags()

    def model_flags(self) -> ModelFlags:
        """How the network runs: in float32, a picture at a time."""
        return ModelFlags(
            micro_batch_size=1,
            num_actors=self.num_actors,
            gpus_per_actor=self.gpus_per_actor,
            wait_for_gpus=self.wait_for_gpus,
            precision="fp32",
            compile="off",
        )

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {
            "--tables": self.table.tables,
            "--outputs": self.table.outputs,
            "--upscaler": self.upscaling.file,
        }
