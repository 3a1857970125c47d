"""How likely a picture's codes are, and which pictures of a caption are kept for it.

p is the model's own distribution: at temperature 1, before top-k, top-p and guidance. Sums over the codes
that were drawn for a picture, or over the ids of its caption, in nats:

- logp: log p(code | caption, codes before it). It favours plain pictures, whose codes are all easy to guess.
- gain: logp minus the same sum without the caption. It says how much the caption explains, and needs a model
  that was trained with --caption-dropout.
- caption: log p(caption | codes), by a model that captions too (caption_sampling.py).

And one of the picture itself:

- clip: the cosine of its vector and its caption's, by a Chinese CLIP.

Shapes: B pictures, R rows of the model a picture (2 with guidance: with the caption, without), V
codebook_size, L image_len.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from painter_core.flag_checks import check_range
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPTConfig

Score = Literal["logp", "gain", "caption", "clip"]
OF_CODES: tuple[Score, ...] = ("logp", "gain")
SCORES: tuple[Score, ...] = (*OF_CODES, "caption", "clip")
KNOWN = f"{', '.join(SCORES[:-1])} or {SCORES[-1]}"


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """Which pictures of a caption are kept, and which scores are told."""

    keep_best: int | None = None
    """Keep so many of a prompt's --max-generated-num pictures, the best by --rank-by; only these are
    decoded. A column `sample` says which they are, `rank` how good (0 is the best)."""
    rank_by: str | None = None
    """logp (the default): how likely a picture's codes are with the caption; gain: how much likelier than
    without it, for models trained with --caption-dropout; caption: how likely the caption is for the picture,
    for models trained with --image-to-text. All in nats, of the model at temperature 1 before top-k, top-p
    and guidance. clip: how near picture and caption are by a CLIP, for which all pictures are decoded."""
    clip: str | None = None
    """For --rank-by clip: the directory of a Chinese CLIP, as transformers writes it."""
    score_columns: bool = False
    """Columns score_logp and score_gain, and score_caption or score_clip where that ranks."""

    def __post_init__(self) -> None:
        if self.rank_by is not None and self.rank_by not in SCORES:
            raise ValueError(f"--rank-by: got {self.rank_by}, expected {KNOWN}")
        if self.rank_by is not None and self.keep_best is None:
            raise ValueError(f"--rank-by {self.rank_by}: goes with --keep-best K, how many are kept")
        if self.rank_by == "clip" and self.clip is None:
            raise ValueError("--rank-by clip: goes with --clip DIR, a Chinese CLIP")
        if self.clip is not None and self.rank_by != "clip":
            raise ValueError(f"--clip {self.clip}: goes with --rank-by clip")

    def check(self, max_generated_num: int) -> None:
        """Raises ValueError unless so many pictures a caption can be chosen from."""
        if self.keep_best is not None:
            check_range("--keep-best", self.keep_best, 1, max_generated_num)

    def check_model(self, gpt: GPTConfig) -> None:
        """Raises ValueError unless a model paints, and has what the scores need."""
        if not gpt.paints:
            raise ValueError("this model only captions: see jobs/caption.py; it cannot paint")
        if self.needs_captioner and not gpt.captions:
            raise ValueError(
                "--rank-by caption: the model only paints; train it with --image-to-text, or rank by logp or "
                "gain"
            )

    @property
    def needs_captioner(self) -> bool:
        """Whether the model must caption too."""
        return "caption" in self.scores

    def kept(self, max_generated_num: int) -> int:
        """Pictures of a caption that are kept, of so many."""
        return self.keep_best or max_generated_num

    @property
    def ranked_by(self) -> Score | None:
        """The score that chooses; None if all pictures are kept."""
        return None if self.keep_best is None else cast(Score, self.rank_by or "logp")

    def choose(
        self, scores: Mapping[Score, np.ndarray], captions: int, number: int, *, best_first: bool = False
    ) -> "Kept":
        """What is kept of `number` pictures of each caption; their scores are (captions * number,) each."""
        if self.ranked_by is None:
            found = np.zeros((captions, number), np.float32)
        else:
            found = scores[self.ranked_by].reshape(captions, number)
        return best_of(found, self.kept(number), best_first=best_first)

    @property
    def scores(self) -> tuple[Score, ...]:
        """What is computed."""
        told = OF_CODES if self.score_columns else ()
        return tuple(name for name in SCORES if name in told or name == self.ranked_by)


def log_probabilities(logits: Tensor, codes: Tensor) -> Tensor:
    """log p of one code a picture: logits (R * B, V) as the model gave them, codes (B,) -> float32 (B, R)."""
    rows = logits.float().unflatten(0, (-1, len(codes)))  # (R, B, V)
    chosen = rows.gather(2, codes.expand(len(rows), -1)[..., None])[..., 0]
    return (chosen - rows.logsumexp(2)).T


@torch.inference_mode()
def log_probabilities_of(model: CachedGPT, codes: Tensor, text_ids: Tensor | None = None) -> Tensor:
    """log p of whole pictures' codes (B, L), float32 (B, L), by one pass over all positions.

    Args:
        text_ids: of their captions, (B, text_len); without them nothing is told of the pictures.
    """
    if text_ids is None:
        shape = (len(codes), model.config.text_len)
        text_ids = torch.full(shape, model.config.codebook_size, device=codes.device)
    found = model.logits_of_rows(text_ids, codes)  # (L, V) of each picture
    return torch.stack([log_probabilities(z, c)[:, 0] for z, c in zip(found, codes, strict=True)])


def sums(log_p: Tensor, wanted: Collection[Score]) -> dict[Score, np.ndarray]:
    """The scores of pictures, float32 (B,), of log p (B, 1 or 2, L): with captions, and without."""
    total = log_p.double().sum(2).cpu().numpy()  # (B, 1 or 2): float32 would lose digits over 1,024 codes
    made: dict[str, Callable[[], np.ndarray]] = {
        "logp": lambda: total[:, 0],
        "gain": lambda: total[:, 0] - total[:, 1],
    }
    return {name: made[name]().astype(np.float32) for name in wanted}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Codes of n pictures that are not decoded."""

    codes: np.ndarray
    """uint16 (n, image_len)."""
    scores: dict[Score, np.ndarray]
    """float32 (n,) each."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Pictures that are kept, captions in order, n in all."""

    rows: np.ndarray
    """Where they stand among all that were drawn, int64 (n,)."""
    samples: np.ndarray
    """Which of their caption's they are, int32 (n,)."""
    ranks: np.ndarray
    """How good they are among all of their caption's, int32 (n,); 0 is the best."""


def best_of(scores: np.ndarray, keep: int, *, best_first: bool) -> Kept:
    """The best pictures of each caption, by the order in which they were drawn, or the best one first.

    Args:
        scores: (captions, N). Of equal scores the earlier picture is the better one.
        keep: of each caption.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    kept = order[:, :keep] if best_first else np.sort(order[:, :keep], axis=1)
    first = np.arange(len(scores))[:, None] * scores.shape[1]
    return Kept(
        rows=(first + kept).ravel(),
        samples=kept.astype(np.int32).ravel(),
        ranks=np.take_along_axis(ranks, kept, 1).astype(np.int32).ravel(),
    )
