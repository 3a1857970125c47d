"""Flags of jobs/generate.py."""

from dataclasses import dataclass, field, fields

from painter_core.easynlp.output import COLUMNS as EASYNLP_COLUMNS
from painter_core.flag_checks import check_range, check_seed, refuse_unused
from painter_core.images.decode import ImageFormat
from painter_core.painting.sampling import SamplingConfig
from painter_core.painting.scores import ChoiceConfig
from painter_core.painting.starting import StartConfig
from painter_core.painting.sweep import sweep_settings, swept_names
from painter_core.runs.flags import ModelFlags, PromptFlags, TableFlags
from painter_core.stages.parts import OutputTable
from painter_core.text.prompt_style import PromptStyle
from painter_core.upscaling.flags import UpscaleFlags
from schemas import outputs


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """prompts table (idx, text) + model -> pictures (idx, text, gen_imgbase64)."""

    table: TableFlags
    input: PromptFlags = field(default_factory=PromptFlags)
    style: PromptStyle = field(default_factory=PromptStyle)
    model: ModelFlags = field(default_factory=ModelFlags)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoint_dir: str
    """Model directory, as jobs/train.py writes it; to decode --init-codes one with a VQGAN is enough."""
    vqgan: str | None = None
    """VQGAN that decodes instead of the model's own; of the same codes (train_vqgan.py --decoder-only)."""
    output_schema: str = "idx,text,gen_imgbase64"
    """Columns of the output, in order."""
    append_cols: str = ""
    """Columns of the input that are appended unchanged, with commas between."""
    max_generated_num: int = 1
    """Pictures a prompt; with more than one, a column `sample` counts them."""
    sweep: str | None = None
    """Paint every prompt at every combination of some settings, "guidance-scale=1,1.5,2,3;temperature=0.7,1",
    from the same random numbers; the settings are columns, and jobs/make_gallery.py shows a grid."""
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    random_seed: int = 42
    """Seed of the draws."""
    start: StartConfig = field(default_factory=StartConfig)
    codes_column: bool = False
    """Column `codes`, as in a codes table: Parquet outputs only. With --output-schema idx,text no picture is
    decoded, and the output is a codes table, to train on or to look at."""
    image_format: ImageFormat = "png"
    """png and webp are lossless, jpeg has quality 90."""
    upscaling: UpscaleFlags = field(default_factory=UpscaleFlags)
    easynlp_format: bool = False
    """Write EasyNLP's lines to --outputs X.tsv: one a prompt, its pictures as a Python list in one cell, and
    the text as the model saw it, without --prompt-prefix and --prompt-suffix."""
    sequence_length: int | None = None
    """Checked against the model's text and picture length together, if given."""
    expect: str = ""
    """Sizes that the model must have, `image_size=256,text_len=32,...`; changes nothing."""

    def __post_init__(self) -> None:
        check_range("--max-generated-num", self.max_generated_num, 1, 4096)
        check_range("--sequence-length", self.sequence_length, 2, 65536 + 4096)
        check_seed(self.random_seed)
        self.choice.check(self.max_generated_num)
        check_range("--sweep: pictures a prompt", len(self.settings) * self.max_generated_num, 1, 4096)
        if self.easynlp_format and self.sweep is not None:
            raise ValueError("--sweep: the lines of --easynlp-format have no place for settings")
        if self.easynlp_format and self.choice.score_columns:
            raise ValueError("--score-columns: the lines of --easynlp-format have no place for them")
        if self.upscaling.wanted and not self.decodes:
            raise ValueError(
                f"--upscale: there are no pictures to enlarge with --output-schema {self.output_schema}"
            )
        if self.codes_column and self.table.outputs.endswith(".tsv"):
            raise ValueError(
                f"--codes-column: lists do not go into a TSV; name a directory or X.parquet instead of "
                f"--outputs {self.table.outputs}"
            )
        if self.easynlp_format and not (self.table.outputs.endswith(".tsv") and self.image_format == "png"):
            raise ValueError(
                f"--easynlp-format: got --outputs {self.table.outputs} and --image-format "
                f"{self.image_format}, expected X.tsv and png, as EasyNLP writes them"
            )
        if self.start.is_whole:
            self._check_decoding()
        known = (*EASYNLP_COLUMNS, *(() if self.easynlp_format else (outputs.SAMPLE_COLUMN,)))
        known = tuple(dict.fromkeys((*known, *self.made_columns)))
        names = self.output_schema.split(",")
        if unknown := [n for n in names if n not in known]:
            raise ValueError(f"--output-schema: unknown columns {unknown}; known are {', '.join(known)}")
        if twice := {n for n in self.output_columns if self.output_columns.count(n) > 1}:
            raise ValueError(f"--output-schema and --append-cols: {sorted(twice)} stands twice")

    def _check_decoding(self) -> None:
        """Nothing that would change the draws, where codes are given and nothing is drawn."""
        why = "beside --init-codes that are all kept (--init-share 1): nothing is drawn"
        refuse_unused(self, ("max_generated_num", "sweep", "random_seed"), why)
        refuse_unused(self.sampling, [f.name for f in fields(SamplingConfig)], why)
        refuse_unused(self.choice, ("keep_best",), why)
        refuse_unused(self.model, ("graphs",), why)
        if not self.needs_gpt:
            refuse_unused(self, ("sequence_length",), f"{why}, and no GPT is read")
        if not self.choice.score_columns:
            refuse_unused(self.style, [f.name for f in fields(PromptStyle)], f"{why}, and nothing scored")
        if not self.decodes and not self.choice.score_columns:
            raise ValueError(
                f"--output-schema {self.output_schema}: whole --init-codes are decoded or scored; neither "
                "is asked for; add gen_imgbase64, or give --score-columns"
            )

    @property
    def needs_gpt(self) -> bool:
        """Whether codes are drawn or scored, or captions written as a GPT reads them."""
        return not self.start.is_whole or bool(self.choice.scores) or self.easynlp_format

    @property
    def needs_vqgan(self) -> bool:
        """Whether pictures are decoded, or encoded to be painted on."""
        return self.decodes or self.choice.ranked_by == "clip" or self.start.init_image is not None

    @property
    def extra(self) -> tuple[str, ...]:
        """Columns carried through."""
        return tuple(n.strip() for n in self.append_cols.split(",") if n.strip())

    @property
    def output_columns(self) -> tuple[str, ...]:
        """Names of the output's columns, in order."""
        names = [n.strip() for n in self.output_schema.split(",")]
        return (*names, *(n for n in self.made_columns if n not in names), *self.extra)

    @property
    def made_columns(self) -> tuple[str, ...]:
        """Columns that the flags add: what is told of each picture."""
        if self.easynlp_format:
            return ()
        ranked = self.choice.keep_best is not None
        return (
            *(swept_names(self.sweep) if self.sweep is not None else ()),
            *([outputs.SAMPLE_COLUMN] if ranked or self.max_generated_num > 1 else []),
            *([outputs.RANK_COLUMN] if ranked else []),
            *(outputs.SCORE_COLUMN.format(name) for name in self.choice.scores),
            *([outputs.CODES_COLUMN] if self.codes_column else []),
        )

    @property
    def decodes(self) -> bool:
        """Whether pictures are wanted, and not their codes alone."""
        return outputs.IMAGE_COLUMN in self.output_schema.split(",")

    @property
    def pictures_a_row(self) -> int:
        """Pictures of a prompt in the output."""
        return len(self.settings) * self.choice.kept(self.max_generated_num)

    @property
    def settings(self) -> list[SamplingConfig]:
        """How the pictures of a prompt are drawn, one setting after the other."""
        return sweep_settings(self.sweep, self.sampling) if self.sweep is not None else [self.sampling]

    def output_table(self) -> OutputTable:
        """What makes a part."""
        return OutputTable(
            columns=self.output_columns,
            carried=self.extra,
            pictures_a_row=self.pictures_a_row,
            image_format=self.image_format,
            easynlp_format=self.easynlp_format,
            # a network enlarges them where they are painted
            scale=1 if self.upscaling.file else self.upscaling.upscale or 1,
        )

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {
            "--tables": self.table.tables,
            "--outputs": self.table.outputs,
            "--checkpoint-dir": self.checkpoint_dir,
            "--upscaler": self.upscaling.file,
            "--clip": self.choice.clip,
        }
