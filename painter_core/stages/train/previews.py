"""Previews: a few captions painted while a model is trained, from the same random numbers every time.

A run that is resumed paints again what it trains again, the same. Off, nothing of this is done; on, no weight
and no random number of the training changes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from painter_core.compute.devices import DTYPES, prepare_vqgan
from painter_core.files.storage import filesystem, join, redact, write_bytes
from painter_core.flag_checks import check_range
from painter_core.images.pixels import quantize_pixels
from painter_core.model_files.open import open_model
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT
from painter_core.painting.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.runs.flags import PromptFlags
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from painter_core.text.escape import visible
from painter_core.text.ids import text_ids
from painter_core.text.prompt_style import PLAIN, PromptStyle
from painter_core.text.tokenizer import Tokenizer
from painter_core.training.metrics import MetricsLog
from painter_core.training.preview_sheet import PREVIEWS, laid_out, write_sheet
from painter_core.training.worker import Worker

MOST = 16  # captions


@dataclass(frozen=True, kw_only=True)
class PreviewFlags:
    """Pictures to look at while a model is trained."""

    preview_table: str | None = None
    """Table of captions (idx, text), of which the first 16 are painted while training, into TensorBoard and
    CHECKPOINT_DIR/previews/step-N.png."""
    preview_steps: int | None = None
    """Steps between previews, by default those between checkpoints; the last step has one too."""

    def __post_init__(self) -> None:
        check_range("--preview-steps", self.preview_steps, 1, 10**9)
        if self.preview_steps is not None and self.preview_table is None:
            raise ValueError(f"--preview-steps {self.preview_steps}: goes with --preview-table PROMPTS")


@dataclass(frozen=True, kw_only=True)
class PreviewPlan:
    """What is painted, and when: made by the driver, read by the first worker."""

    captions: tuple[tuple[str, str], ...]
    """(idx, text)."""
    every: int
    """Steps."""
    seed: int
    style: PromptStyle = PLAIN
    """What is put around the captions."""

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Whether there is a preview after so many updates."""
        return is_last or step % self.every == 0


def plan_previews(flags: PreviewFlags, *, every: int, seed: int) -> PreviewPlan | None:
    """The captions to paint, if some are.

    Args:
        flags: of the job.
        every: steps between previews without --preview-steps.
        seed: of the draws.

    Raises:
        ValueError: the table cannot be read, or has no caption.
    """
    if flags.preview_table is None:
        return None
    files, columns = find_files(flags.preview_table), PromptFlags().columns()
    units = plan_units(files, columns, micro_batch_size=MOST, limit=MOST)
    reader = UnitReader(files=files, columns=columns, stage="preview", keep_rejected=False)
    rows = [row for unit in reader.read(units) for row in unit.table.to_pylist()]
    if not rows:
        raise ValueError(
            f"--preview-table {redact(flags.preview_table)}: no caption in its first {MOST} rows"
        )
    captions = tuple((row["idx"], row["text"]) for row in rows)
    return PreviewPlan(captions=captions, every=flags.preview_steps or every, seed=seed)


class Previews:
    """Paints the captions with the weights of the moment.

    Args:
        plan: what is painted.
        root: directory of the run, a path or URL.
        vqgan_dir: VQGAN that decodes.
        tokenizer: of the model.
        worker: the one that paints.
    """

    def __init__(
        self, plan: PreviewPlan, root: str, vqgan_dir: str, tokenizer: Tokenizer, worker: Worker
    ) -> None:
        self.plan, self.root, self._worker, self._tokenizer = plan, root, worker, tokenizer
        vqgan = open_model(vqgan_dir).load_vqgan()
        self._vqgan = prepare_vqgan(vqgan, worker.device, worker.precision)
        # numbered as the sheets show them, row by row; a caption's own line ends would break the list
        lines = (f"{i + 1}\t{visible(text)}\n" for i, (_, text) in enumerate(plan.captions))
        path = join(root, PREVIEWS, "captions.txt")
        write_bytes(*filesystem(path), "".join(lines).encode())

    @torch.inference_mode()
    def paint(self, gpt: GPT, step: int, metrics: MetricsLog | None) -> None:
        """Paints, and writes the sheet of a step."""
        config, device = gpt.config, self._worker.device
        texts = [self.plan.style.of(text) for _, text in self.plan.captions]
        ids = text_ids(self._tokenizer, texts, text_len=config.text_len, codebook_size=config.codebook_size)
        uniforms = [row_uniforms(self.plan.seed, idx, 0, config.image_len) for idx, _ in self.plan.captions]
        model = CachedGPT(gpt, DTYPES[self._worker.precision])
        found = sample_codes(
            model,
            torch.from_numpy(ids.ids).to(device),
            torch.from_numpy(np.stack(uniforms)).to(device),
            SamplingConfig(),
        )
        # one by one: a whole batch of large pictures would need memory that the training has
        pixels = [self._vqgan.decode(codes[None]) for codes in found]
        pictures = quantize_pixels(torch.cat(pixels)).cpu().numpy()
        write_sheet(self.root, step, "preview", laid_out(pictures), metrics)
