"""Keeps the entries of a codebook in use: the first layout over latents, and the revival of dead entries.

N latents of width E, and codes (N,).
"""

import torch
import torch.distributed as dist
from torch import Tensor

from painter_core.models.vqgan import VQGAN
from painter_core.training.worker import Worker

LATENTS_PER_ENTRY = 2  # for the first layout, if the table has as many
REVIVE_EVERY_STEPS = 25
DEAD_SHARE = 0.03  # of an even share: an entry that gets fewer latents than this is placed anew
USE_DECAY = 0.98


class CodebookCare:
    """Counts the use of every entry and moves entries to latents.

    Args:
        vqgan: the VQGAN that the codebook belongs to.
        optimizer: its optimizer; a moved entry's moments are cleared.
        average: averaged weights; a moved entry is moved there too.
        worker: entries are the same on every rank: rank 0 chooses.
        seed: decides the choice, together with the step.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        optimizer: torch.optim.Optimizer,
        average: dict[str, Tensor],
        worker: Worker,
        seed: int,
    ) -> None:
        self.entries = vqgan.quantize.embedding.weight  # (codebook_size, E)
        self.optimizer, self.average, self.worker, self.seed = optimizer, average, worker, seed
        self.use = torch.ones(len(self.entries), device=worker.device)
        """Moving average of each entry's share of the latents; 1 is an even share."""

    @torch.no_grad()
    def lay_out(self, latents: Tensor, step: int) -> None:
        """Sets all entries to latents (N, E) of pictures."""
        self._place(latents, torch.arange(len(self.entries)), step)

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Counts the codes of a step, over all ranks."""
        counts = self.worker.total(torch.bincount(codes, minlength=len(self.use)).float())
        self.use.mul_(USE_DECAY).add_(counts / counts.mean(), alpha=1 - USE_DECAY)

    @torch.no_grad()
    def revive(self, latents: Tensor, step: int) -> None:
        """Every 25th step moves the unused entries to some of these latents (N, E)."""
        if step % REVIVE_EVERY_STEPS:
            return
        dead = (self.use < DEAD_SHARE).nonzero()[:, 0]
        if len(dead):
            self._place(latents, dead, step)
            self.use[dead] = 1.0

    def _place(self, latents: Tensor, chosen: Tensor, step: int) -> None:
        """Moves entries to random latents of rank 0, with a little noise so that no two are equal."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        if len(chosen) <= len(latents):
            picked = torch.randperm(len(latents), generator=generator)[: len(chosen)]
        else:
            picked = torch.randint(len(latents), (len(chosen),), generator=generator)
        new = latents[picked.to(latents.device)].float()
        noise = torch.randn(new.shape, generator=generator).to(new.device)
        new = new + 0.02 * latents.std() * noise
        if self.worker.world_size > 1:
            dist.broadcast(new, 0)
        self.entries.data[chosen] = new
        state = self.optimizer.state.get(self.entries)
        for moment in ("exp_avg", "exp_avg_sq"):
            if state and moment in state:
                state[moment][chosen] = 0.0
        self.average["quantize.embedding.weight"][chosen] = new
