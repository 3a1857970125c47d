"""Flags of jobs/make_table.py."""

from dataclasses import dataclass
from typing import Literal

from painter_core.flag_checks import check_range, check_seed, refuse_unused

MOST_ROWS, MOST_SIDE_PX = 10**9, 4096  # of the sample


@dataclass(frozen=True, kw_only=True)
class MakeTableConfig:
    """A folder of pictures with captions, or the bundled sample -> pairs table (or prompts table)."""

    outputs: str
    """Output file: X.parquet (binary pictures) or X.tsv (base64)."""
    pictures: str | None = None
    """Folder of pictures, sub-folders included."""
    captions: str | None = None
    """Captions of the pictures: a TSV `file name, caption`, a CSV with a header, or JSON lines with `file`
    (or `file_name`) and `text`; by default the text in the .txt file of the same stem beside each picture."""
    sample: int | None = None
    """Draw this many rows of the bundled sample instead: product pictures with Chinese captions."""
    scenes: int = 0
    """Besides, this many drawn scenes that show no goods, for training a VQGAN that is no specialist."""
    split: Literal["train", "valid", "held_out"] = "train"
    """Which rows of the sample: held_out has combinations of attributes that train and valid never show."""
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
        return {"--outputs": self.outputs, "--pictures": self.pictures, "--captions": self.captions}

    def __post_init__(self) -> None:
        if (self.pictures is None) == (self.sample is None):
            raise ValueError("give either --pictures FOLDER or --sample N")
        if not self.outputs.endswith((".parquet", ".tsv")):
            raise ValueError(f"--outputs {self.outputs}: expected a name that ends in .parquet or .tsv")
        check_range("--sample", self.sample, 0, MOST_ROWS)
        check_range("--scenes", self.scenes, 0, MOST_ROWS)
        check_range("--image-size", self.image_size, 1, MOST_SIDE_PX)
        check_seed(self.random_seed)
        if self.sample is None:
            of_sample = ("scenes", "split", "image_size", "random_seed")
            refuse_unused(self, of_sample, "beside --pictures: it is for the bundled sample")
        else:
            refuse_unused(self, ["captions"], "beside --sample, which has captions of its own")
