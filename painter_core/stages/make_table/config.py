"""Flags of jobs/make_table.py."""

from dataclasses import dataclass
from typing import Literal

from painter_core.flag_checks import check_range, check_seed, refuse_unused
from painter_core.sample.styles import STYLES
from painter_core.tables.columns import Encoding

MOST_ROWS, MOST_SIDE_PX = 10**9, 4096  # of the sample


@dataclass(frozen=True, kw_only=True)
class MakeTableConfig:
    """Pictures with captions as people have them, or the bundled sample -> pairs table (or prompts table)."""

    outputs: str
    """Output file: X.parquet (binary pictures) or X.tsv (base64)."""
    pictures: str | None = None
    """Folder of pictures, sub-folders included. With --source, the folder that its paths are in; by default
    that of the file itself."""
    source: str | None = None
    """Instead of a folder of pictures: files, directories or patterns, with commas between. WebDataset tars,
    JSON lines (.jsonl) and CSV with paths or base64, image folders and Parquet of Hugging Face, the
    SPLIT_texts.jsonl beside SPLIT_imgs.tsv of Chinese-CLIP, and its LMDB."""
    idx_column: str = "idx"
    """With --source, column of the row's key, or `row` for row numbers; without a column `idx` it is the
    picture's path, a tar's key, or file and number."""
    first_sequence: str | None = None
    """With --source, column, key or member of the caption; A.B is the field B of a structure A. By default
    text, caption or captions; of a tar the .txt or these keys of the .json."""
    second_sequence: str | None = None
    """With --source, column, key or member of the picture. By default image, imgbase64, img, file_name, file,
    image_path or path; of a tar the member with a picture's suffix."""
    encoding: Encoding = "utf-8"
    """Encoding of captions, and of names in tars: utf-8, or gb18030, which reads GBK and GB2312 too."""
    max_reject_fraction: float = 0.01
    """More rejected rows than this share: exit code 3, no table."""
    captions: str | None = None
    """Captions of the pictures: a TSV `file name, caption`, a CSV with a header, or JSON lines with `file`
    (or `file_name`) and `text`; by default the text in the .txt file of the same stem beside each picture."""
    sample: int | None = None
    """Draw this many rows of the bundled sample instead: product pictures with Chinese captions."""
    scenes: int = 0
    """Besides, this many drawn scenes that show no goods, for training a VQGAN that is no specialist."""
    split: Literal["train", "valid", "held_out"] = "train"
    """Which rows of the sample: held_out has combinations of attributes that train and valid never show."""
    styles: str | None = None
    """Draw the sample in these styles, `all` or names with commas between (平涂, 线稿, 漫画, 贴纸), which the
    captions name. Train and valid show each kind of goods in all styles but one, held_out in that one."""
    image_size: int = 64
    """Side of the sample's pictures in pixels."""
    prompts: bool = False
    """Write idx and text only."""
    random_seed: int = 42
    """Seed of the sample."""
    overwrite: bool = False
    """Replace the output."""

    def paths(self) -> dict[str, str | None]:
        """Flags that name paths."""
        return {
            "--outputs": self.outputs,
            "--pictures": self.pictures,
            "--captions": self.captions,
            "--source": self.source,
        }

    def __post_init__(self) -> None:
        if self.source is None and (self.pictures is None) == (self.sample is None):
            raise ValueError("give either --pictures FOLDER or --sample N, or --source FILES")
        if self.source is not None and (self.sample is not None or self.captions is not None):
            raise ValueError(
                "--source: has its captions, and is no sample; leave out --captions and --sample"
            )
        of_source = ("idx_column", "first_sequence", "second_sequence")
        given = [name for name in of_source if getattr(self, name) != getattr(type(self), name)]
        if self.source is None and given:
            raise ValueError(f"--{given[0].replace('_', '-')}: only with --source")
        if not self.outputs.endswith((".parquet", ".tsv")):
            raise ValueError(f"--outputs {self.outputs}: expected a name that ends in .parquet or .tsv")
        check_range("--max-reject-fraction", self.max_reject_fraction, 0, 1)
        check_range("--sample", self.sample, 0, MOST_ROWS)
        check_range("--scenes", self.scenes, 0, MOST_ROWS)
        check_range("--image-size", self.image_size, 1, MOST_SIDE_PX)
        check_seed(self.random_seed)
        if self.sample is None:
            of_sample = ("scenes", "split", "styles", "image_size", "random_seed")
            refuse_unused(self, of_sample, "beside --pictures: it is for the bundled sample")
        else:
            refuse_unused(self, ["captions"], "beside --sample, which has captions of its own")
            self.style_names()

    def style_names(self) -> tuple[str, ...]:
        """The sample's styles; none for a sample without."""
        names = [] if self.styles is None else self.styles.split(",")
        names = list(STYLES) if names == ["all"] else names
        if unknown := [name for name in names if name not in STYLES]:
            raise ValueError(f"--styles: got {unknown[0]!r}, expected `all`, or some of {', '.join(STYLES)}")
        return tuple(dict.fromkeys(names))
