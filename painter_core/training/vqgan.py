"""Training a VQGAN: one step, averaged weights, what a resume needs. Knows nothing of Ray.

The recipe of taming-transformers: L1 (with a share of L2, which favours PSNR), a perceptual distance if its
weights are given, a codebook loss with straight-through gradients, and after `disc_start` steps a hinge
PatchGAN whose weight follows the ratio of gradient norms at the decoder's last layer (vqgan_losses.py). The
entries of the codebook are kept in use by codebook_care.py.

Shapes: B pictures, N = B * grid_size**2 latents, E embed_dim.
"""

import math

import numpy as np
import torch
import torch._functorch.config as functorch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.compute.devices import autocast
from painter_core.images.pixels import sent_pixels
from painter_core.model_files.directory import DECODER
from painter_core.models.discriminator import PatchDiscriminator
from painter_core.models.perceptual import PerceptualDistance
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.training.codebook_care import LATENTS_PER_ENTRY, CodebookCare
from painter_core.training.vqgan_config import VQGANTrainConfig
from painter_core.training.vqgan_losses import DiscriminatorLoss, adversarial_weight
from painter_core.training.worker import Worker

BETAS = (0.9, 0.99)  # Adam's; taming has (0.5, 0.9), which needs far more steps on small pictures
BETA = 0.25  # weight of the commitment loss (van den Oord et al. 2017)


class Autoencoder(nn.Module):
    """The VQGAN's training pass, as one module for DistributedDataParallel."""

    def __init__(self, vqgan: VQGAN, *, compiled: bool) -> None:
        super().__init__()
        self.vqgan = vqgan
        if compiled:
            # the adaptive weight goes through the decoder's backward pass more than once
            functorch.donated_buffer = False
        self._encode = torch.compile(vqgan.latents, dynamic=False) if compiled else vqgan.latents
        self._decode = (
            torch.compile(vqgan.decode_latents, dynamic=False) if compiled else vqgan.decode_latents
        )

    def forward(self, pixels: Tensor, quantized: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reconstruction (B, 3, S, S), codebook loss, latents (N, E) and codes (N,), all float32 or int64."""
        z = self._encode(pixels).float()  # (B, E, h, w)
        b, e, h, w = z.shape
        flat = z.permute(0, 2, 3, 1).reshape(-1, e)
        codes = self.vqgan.quantize.codes(flat.detach())
        entries = self.vqgan.quantize.embedding(codes)
        if quantized:
            loss = F.mse_loss(entries, flat.detach()) + BETA * F.mse_loss(flat, entries.detach())
            flat = flat + (entries - flat).detach()  # straight-through: the gradient passes the quantizer by
        else:
            loss = 0.0 * entries.sum()  # keeps the codebook in the graph
        # contiguous: in the channels-last layout of the permuted view group norm's backward pass is many
        # times slower on a CPU
        z_q = flat.view(b, h, w, e).permute(0, 3, 1, 2).contiguous()
        return self._decode(z_q).float(), loss, z.permute(0, 2, 3, 1).reshape(-1, e).detach(), codes


def check_trainable(geometry: VQGANConfig, *, decoder_only: bool) -> None:
    """Raises ValueError for a quantizer that these losses, which are of the nearest entry, cannot train."""
    if geometry.quantizer != "nearest" and not decoder_only:
        raise ValueError(
            f"a VQGAN with the quantizer {geometry.quantizer!r}: the losses here pull latents and their "
            "nearest entries together, which would spoil its codes; train the decoder alone, with "
            "--decoder-only"
        )


def learning_rate(config: VQGANTrainConfig, step: int) -> float:
    """Learning rate of the update after `step` finished ones."""
    warmup = max(1, config.max_steps // 50)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, config.max_steps - warmup)
    # a Python float: torch.load(weights_only=True) refuses a numpy scalar in the optimizer's state
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * done))))


class VQGANTrainer:
    """Model, discriminator, optimizers, averaged weights and codebook use of one worker.

    Args:
        perceptual: the perceptual term's distance, if there is to be one.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        config: VQGANTrainConfig,
        worker: Worker,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        check_trainable(vqgan.config, decoder_only=config.decoder_only)
        self.config, self.worker = config, worker
        self.perceptual = perceptual.to(worker.device) if perceptual else None
        self.vqgan = vqgan.to(worker.device)
        for name, parameter in self.vqgan.named_parameters():
            frozen = config.decoder_only and not name.startswith(DECODER)
            parameter.requires_grad_(not frozen)
        self.discriminator = PatchDiscriminator().to(worker.device)
        trained = [p for p in self.vqgan.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=config.learning_rate, betas=BETAS, fused=True)
        self.disc_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=config.learning_rate, betas=BETAS, fused=True
        )
        self.average = {k: v.detach().clone() for k, v in self.vqgan.state_dict().items()}
        self.care = CodebookCare(self.vqgan, self.optimizer, self.average, worker, config.run.random_seed)
        self.step = 0
        if config.run.compile == "on" and worker.device.type == "cpu":
            # seen with torch 2.13: compiled for a CPU, bf16 convolutions get gradients that are plainly wrong
            raise ValueError("--compile on: not for a VQGAN on a CPU, where its gradients come out wrong")
        compiled = config.run.compile != "off" and worker.device.type == "cuda"
        self.model: nn.Module = Autoencoder(self.vqgan, compiled=compiled)
        self.disc_model: nn.Module = DiscriminatorLoss(self.discriminator)
        if worker.world_size > 1:
            devices = [worker.device.index] if worker.device.type == "cuda" else None
            self.model = nn.parallel.DistributedDataParallel(self.model, device_ids=devices)
            self.disc_model = nn.parallel.DistributedDataParallel(self.disc_model, device_ids=devices)

    @property
    def pictures_for_codebook(self) -> int:
        """How many pictures `lay_out_codebook` wants before the next step; 0 if the codebook is
        not laid out then."""
        if self.config.vqgan or self.step != self.config.quantize_after:
            return 0
        geometry = self.vqgan.config
        return math.ceil(LATENTS_PER_ENTRY * geometry.codebook_size / geometry.image_len)

    @torch.no_grad()
    def lay_out_codebook(self, pictures: np.ndarray) -> None:
        """Sets the entries to latents of pictures uint8 (n, S, S, 3), the same ones on every rank."""
        latents = []
        for start in range(0, len(pictures), self.config.micro_batch_size):
            batch = pictures[start : start + self.config.micro_batch_size]
            with autocast(self.worker.device, self.worker.precision):
                z = self.vqgan.latents(sent_pixels(batch, self.worker.device).contiguous())
            latents.append(z.permute(0, 2, 3, 1).flatten(0, 2).float())  # (B * h * w, E)
        self.care.lay_out(torch.cat(latents), self.step)

    def train_step(self, pictures: np.ndarray) -> dict[str, float]:
        """One update on this rank's pictures uint8 (B, S, S, 3).

        Returns:
            Losses and gradient norms, the discriminator's too. If one is not finite no weight was changed.
        """
        config, worker = self.config, self.worker
        pixels = sent_pixels(pictures, worker.device).contiguous()
        quantized = bool(config.vqgan) or self.step >= config.quantize_after
        for group in self.optimizer.param_groups + self.disc_optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        with autocast(worker.device, worker.precision):
            rec, codebook_loss, latents, codes = self.model(pixels, quantized)
        values = {"train_codebook": codebook_loss} | self._reconstruction_losses(rec, pixels)
        loss = values.pop("loss") + codebook_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        values["train_loss"] = loss
        values["grad_norm"] = nn.utils.clip_grad_norm_(
            [p for p in self.vqgan.parameters() if p.requires_grad], 1.0
        )
        if self.step >= config.disc_start:
            values |= self._discriminator_gradients(pixels, rec.detach())
        # all of them at once: a GPU is waited for once
        numbers = torch.stack([value.detach().float() for value in values.values()]).tolist()
        found = dict(zip(values, numbers, strict=True))
        if not np.isfinite(list(found.values())).all():
            return found
        self.optimizer.step()
        if self.step >= config.disc_start:
            self.disc_optimizer.step()
        self.step += 1
        self._update_average()
        if quantized and not config.decoder_only:
            self.care.count(codes)
            if self.step <= 0.8 * config.max_steps:
                self.care.revive(latents, self.step)
        return found

    def _reconstruction_losses(self, rec: Tensor, pixels: Tensor) -> dict[str, Tensor]:
        """`loss`, the sum of the terms that train the reconstruction, and the terms to log."""
        config = self.config
        error = (rec - pixels).abs().mean() + config.l2_weight * (rec - pixels).square().mean()
        values = {"loss": error, "train_rec": error}
        if self.perceptual:
            values["train_perceptual"] = self.perceptual(rec, pixels).mean()
            values["loss"] = error + config.perceptual_weight * values["train_perceptual"]
        if self.step >= config.disc_start:
            fooled = -self.discriminator(rec).mean()
            weight = adversarial_weight(values["loss"], fooled, self.vqgan.decoder.conv_out.weight)
            values |= {"train_fooled": fooled, "train_disc_weight": config.disc_weight * weight}
            values["loss"] = values["loss"] + config.disc_weight * weight * fooled
        return values

    def _discriminator_gradients(self, pixels: Tensor, rec: Tensor) -> dict[str, Tensor]:
        """The discriminator's loss and the norm of its gradients; its optimizer has yet to step."""
        loss = self.disc_model(pixels, rec)
        self.disc_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in self.discriminator.parameters() if p.grad is not None]
        return {"train_disc": loss, "disc_grad_norm": nn.utils.get_total_norm(gradients)}

    def _update_average(self) -> None:
        # young averages follow faster, or they would remember the random start
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.vqgan.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def averaged(self) -> VQGAN:
        """A copy with the averaged weights."""
        copy = VQGAN(self.vqgan.config).to(self.worker.device)
        copy.load_state_dict(self.average)
        return copy.eval()

    def state(self) -> dict[str, object]:
        """Everything that an exact resume needs."""
        return {
            "step": self.step,
            "vqgan": self.vqgan.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "disc_optimizer": self.disc_optimizer.state_dict(),
            "average": self.average,
            "use": self.care.use,
        }

    def load_state(self, state: dict[str, object]) -> None:
        """Restores what `state` returned."""
        for name in ("vqgan", "discriminator", "optimizer", "disc_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name, value in state["average"].items():  # type: ignore[attr-defined]
            self.average[name].copy_(value)
        self.care.use.copy_(state["use"])  # type: ignore[arg-type]
        self.step = state["step"]  # type: ignore[assignment]
