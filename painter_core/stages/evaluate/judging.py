"""What is computed of each picture of a table, and from which files: named by their content.

Without torch: CPU workers unpickle this. What a picture becomes on the way is a record of picture_forms.py,
then columns of the scores table (schemas/scores.py).
"""

from dataclasses import dataclass, field
from typing import Any

from painter_core.evaluation.inception_input import Convention
from painter_core.evaluation.picture_forms import PictureForms
from painter_core.sample.captions import VALUES
from schemas import scores


@dataclass(frozen=True, kw_only=True)
class InceptionJudge:
    """Inception's features."""

    file: str
    sha256: str
    resize: Convention
    blurs: tuple[int, ...] = (0,)

    def about(self, blur: int) -> dict[str, str]:
        """What two sets of features must have in common to be held against each other."""
        return {"resize": self.resize, "blur": str(blur), "weights_sha256": self.sha256}


@dataclass(frozen=True, kw_only=True)
class ClipJudge:
    """CLIP's vectors of picture and caption."""

    directory: str
    pins: dict[str, str]
    """Sums of weights and tokenizer."""
    image_size: int
    width: int
    """Numbers of a vector."""


@dataclass(frozen=True, kw_only=True)
class LikelihoodJudge:
    """The likelihood of a picture's codes, of its caption, or of both."""

    model: str
    pins: dict[str, str]
    """Sums of GPT, tokenizer and VQGAN."""
    image_size: int
    is_codes: bool
    """Whether the table holds codes; else its pictures are turned into codes first."""
    metrics: tuple[str, ...] = ("likelihood",)
    """likelihood: of the codes; caption: of the caption."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionJudge:
    """How well a VQGAN gives a picture back."""

    vqgan: str
    pins: dict[str, str]
    """Sums of the VQGAN and of the weights of LPIPS."""
    image_size: int
    perceptual: str | None


@dataclass(frozen=True, kw_only=True)
class Judging:
    """All that is computed of a table."""

    attributes: bool = False
    inception: InceptionJudge | None = None
    clip: ClipJudge | None = None
    likelihood: LikelihoodJudge | None = None
    reconstruction: ReconstructionJudge | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Columns of caption and picture, as rejects name them."""

    @property
    def is_codes(self) -> bool:
        """Whether a cell holds codes instead of a picture."""
        return self.likelihood is not None and self.likelihood.is_codes

    @property
    def needs_model(self) -> bool:
        """Whether a model worker has a part in it."""
        return any((self.inception, self.clip, self.likelihood, self.reconstruction))

    def forms(self) -> PictureForms:
        """What CPU workers make of a picture."""
        encoded = self.reconstruction or (self.likelihood if not self.is_codes else None)
        # a reconstruction's features are those of the crop that the VQGAN sees
        inception = self.inception if self.reconstruction is None else None
        return PictureForms(
            goods=self.attributes,
            inception=inception.resize if inception else None,
            blurs=inception.blurs if inception else (0,),
            clip_px=self.clip.image_size if self.clip else None,
            vqgan_px=encoded.image_size if encoded else None,
        )

    def identity(self) -> dict[str, Any]:
        """What makes the rows of the scores table."""
        made: dict[str, Any] = {"attributes": self.attributes}
        if self.inception:
            made |= {
                "inception_sha256": self.inception.sha256,
                "resize": self.inception.resize,
                "blurs": list(self.inception.blurs),
            }
        if self.clip:
            made |= self.clip.pins
        if self.likelihood:
            made |= self.likelihood.pins | {"likelihood_of": "codes" if self.is_codes else "pictures"}
            if self.likelihood.metrics != ("likelihood",):
                made["likelihood_metrics"] = list(self.likelihood.metrics)
        if self.reconstruction:
            made |= self.reconstruction.pins | {"reconstruction": True}
        return made

    def schema(self) -> Any:
        """Schema of the scores table (a pyarrow.Schema)."""
        vectors: dict[str, int] = {}
        numbers: list[str] = []
        if self.inception:
            names = [scores.inception_column(blur) for blur in self.inception.blurs]
            names += [scores.INCEPTION_REC] if self.reconstruction else []
            vectors |= dict.fromkeys(names, scores.INCEPTION_WIDTH)
        if self.clip:
            vectors |= {scores.CLIP_IMAGE: self.clip.width, scores.CLIP_TEXT: self.clip.width}
        if self.likelihood:
            numbers += [scores.BITS] if "likelihood" in self.likelihood.metrics else []
            captioned = "caption" in self.likelihood.metrics
            numbers += [scores.CAPTION_NATS, scores.CAPTION_TOKENS] if captioned else []
        if self.reconstruction:
            numbers += [scores.PSNR, scores.SSIM, *([scores.LPIPS] if self.reconstruction.perceptual else [])]
        return scores.schema(tuple(VALUES) if self.attributes else (), vectors, tuple(numbers))
