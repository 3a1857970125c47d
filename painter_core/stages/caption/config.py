"""Flags of jobs/caption.py."""

import dataclasses
from dataclasses import dataclass, field

from painter_core.flag_checks import check_range, check_seed, refuse_unused
from painter_core.images.decode import Alpha, Resize
from painter_core.painting.caption_sampling import CaptionSampling
from painter_core.runs.flags import ModelFlags, PairFlags, TableFlags
from painter_core.tables.columns import Columns
from schemas import captions


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """table of pictures, or codes table, + model -> captions (idx, gen_text, sample, score)."""

    table: TableFlags
    input: PairFlags = field(default_factory=PairFlags)
    model: ModelFlags = field(default_factory=ModelFlags)
    sampling: CaptionSampling = field(default_factory=CaptionSampling)
    checkpoint_dir: str
    """Model directory that captions: of jobs/train.py --image-to-text, or a captioning model of EasyNLP's."""
    score_only: bool = False
    """Write nothing, but how likely the given captions (--first-sequence) are."""
    max_generated_num: int = 1
    """Captions a picture; `sample` counts them."""
    output_schema: str | None = None
    """Columns of the output, in order; by default idx,gen_text,sample,score,score_per_token, or with
    --score-only idx,text,score,score_per_token."""
    append_cols: str = ""
    """Columns of the input that are appended unchanged, with commas between: `text` shows the given caption
    beside the written one."""
    random_seed: int = 42
    """Seed of the draws."""
    resize: Resize = "bilinear"
    """bilinear: EasyNLP's transform; antialias: bicubic with antialiasing."""
    alpha: Alpha = "white"
    """What lies under transparent pixels: white, or `drop` for the hidden colour, as in EasyNLP."""
    sequence_length: int | None = None
    """Checked against the model's text and picture length together, if given."""
    expect: str = ""
    """Sizes that the model must have, `image_size=256,text_len=32,...`; changes nothing."""

    def __post_init__(self) -> None:
        check_range("--max-generated-num", self.max_generated_num, 1, 4096)
        check_range("--sequence-length", self.sequence_length, 2, 65536 + 4096)
        check_seed(self.random_seed)
        self.sampling.check(self.max_generated_num)
        if self.model.graphs == "on":
            raise ValueError("--graphs on: only painting has them; leave it out")
        if self.score_only:
            why = "beside --score-only, which writes no caption"
            refuse_unused(self, ("max_generated_num", "random_seed"), why)
            refuse_unused(self.sampling, ("top_k", "top_p", "temperature", "beam"), why)
        known, names = self._known, [n.strip() for n in (self.output_schema or "").split(",")]
        if self.output_schema is not None and (unknown := [n for n in names if n not in known]):
            raise ValueError(f"--output-schema: unknown columns {unknown}; known are {', '.join(known)}")
        made = {captions.TEXT, captions.SAMPLE, captions.SCORE, captions.MEAN}
        if taken := sorted(made & set(self.extra)):
            raise ValueError(f"--append-cols: {taken} are columns of the output itself; rename the input's")
        if twice := {n for n in self.output_columns if self.output_columns.count(n) > 1}:
            raise ValueError(f"--output-schema and --append-cols: {sorted(twice)} stands twice")

    @property
    def _known(self) -> tuple[str, ...]:
        return captions.SCORED if self.score_only else captions.WRITTEN

    @property
    def extra(self) -> tuple[str, ...]:
        """Columns carried through."""
        return tuple(n.strip() for n in self.append_cols.split(",") if n.strip())

    @property
    def output_columns(self) -> tuple[str, ...]:
        """Names of the output's columns, in order."""
        names = self.output_schema.split(",") if self.output_schema is not None else self._known
        return (*(n.strip() for n in names), *self.extra)

    def columns(self, *, is_codes: bool) -> Columns:
        """What is read.

        Args:
            is_codes: of a table of ours with codes, which says its columns itself.
        """
        text = self.input.first_sequence if self.score_only else None
        if is_codes:
            schema = ("idx", "text", "codes")
            return Columns(schema=schema, text=text, image="codes", codes=True, extra=self.extra)
        found = self.input.columns()
        return dataclasses.replace(found, text=text, extra=self.extra)

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {
            "--tables": self.table.tables,
            "--outputs": self.table.outputs,
            "--checkpoint-dir": self.checkpoint_dir,
        }
