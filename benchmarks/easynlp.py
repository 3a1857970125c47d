"""EasyNLP's algorithm in our own words, as a baseline: what it computes, in its order and precision.

Read in its public sources (appzoo/text2image_generation, modelzoo/models/artist): no cache of keys and
values, so every step computes all positions anew; the head on all of them; float32 throughout; sampling by
masking all logits below the k-th; the VQGAN's encoder in every training step; a batch's pictures decoded as
often as it has rows; tensors made from lists of arrays. Its networks are minGPT's and taming-transformers',
written here on the weights of ours: the results are equal, what differs is how they are computed.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN


def gpt_logits(model: GPT, idx: Tensor) -> Tensor:
    """Logits (B, T, V) at every position of idx (B, T)."""
    t = idx.shape[1]
    x = model.tok_emb(idx) + model.pos_emb[:, :t]
    mask = torch.ones(t, t, dtype=torch.bool, device=idx.device).tril()
    for block in model.blocks:
        x = x + _attention(block.attn, block.ln1(x), mask)
        x = x + block.mlp(block.ln2(x))
    return model.head(model.ln_f(x))


def _attention(attn: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """All products of positions are computed, then those with later ones are masked."""
    b, t, d = x.shape
    heads = attn.n_head
    k, q, v = (f(x).view(b, t, heads, d // heads).transpose(1, 2) for f in (attn.key, attn.query, attn.value))
    scores = (q @ k.transpose(-2, -1)) * (d // heads) ** -0.5  # (B, H, T, T)
    weights = F.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1)
    return attn.proj((weights @ v).transpose(1, 2).reshape(b, t, d))


def sample_step(model: GPT, idx: Tensor, *, top_k: int) -> Tensor:
    """idx (B, T) with one more code; as in EasyNLP, not under no_grad."""
    logits = gpt_logits(model, idx)[:, -1]
    kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
    probabilities = F.softmax(logits.masked_fill(logits < kth, float("-inf")), dim=-1)
    return torch.cat((idx, torch.multinomial(probabilities, 1)), dim=1)


def generate(model: GPT, text_ids: Tensor, *, top_k: int) -> Tensor:
    """Codes (B, image_len) of whole pictures."""
    idx = text_ids
    for _ in range(model.config.image_len):
        idx = sample_step(model, idx, top_k=top_k).detach()
    return idx[:, text_ids.shape[1] :]


def encode(model: VQGAN, pixels: Tensor) -> Tensor:
    """Codes (B, image_len): distances to all entries in three terms, and the losses that nobody reads."""
    encoder = model.encoder
    h = encoder.conv_in(pixels)
    for level in encoder.down:
        h = _level(level, h)
        if hasattr(level, "downsample"):
            h = level.downsample(h)
    h = _middle(encoder.mid, h)
    z = model.quant_conv(encoder.conv_out(_swish(encoder.norm_out(h)))).permute(0, 2, 3, 1).contiguous()
    flat, entries = z.view(-1, model.config.embed_dim), model.quantize.embedding.weight
    distances = (
        flat.square().sum(dim=1, keepdim=True)
        + entries.square().sum(dim=1)
        - 2 * torch.einsum("bd,dn->bn", flat, entries.t())
    )
    codes = distances.argmin(dim=1)
    z_q = model.quantize.embedding(codes).view(z.shape)
    _ = ((z_q.detach() - z) ** 2).mean() + 0.25 * ((z_q - z.detach()) ** 2).mean()
    return codes.view(len(pixels), -1)


def decode(model: VQGAN, codes: Tensor) -> Tensor:
    """Pixels (B, 3, S, S)."""
    grid, decoder = model.config.grid_size, model.decoder
    z = model.quantize.embedding(codes).view(len(codes), grid, grid, -1).permute(0, 3, 1, 2).contiguous()
    h = _middle(decoder.mid, decoder.conv_in(model.post_quant_conv(z)))
    for level in reversed(decoder.up):
        h = _level(level, h)
        if hasattr(level, "upsample"):
            h = level.upsample(h)
    return decoder.conv_out(_swish(decoder.norm_out(h)))


def _swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _block(block: nn.Module, x: Tensor) -> Tensor:
    h = block.conv1(_swish(block.norm1(x)))
    h = block.conv2(_swish(block.norm2(h)))
    return (block.nin_shortcut(x) if hasattr(block, "nin_shortcut") else x) + h


def _attend(attn: nn.Module, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    y = attn.norm(x)
    q, k, v = (f(y).reshape(b, c, h * w) for f in (attn.q, attn.k, attn.v))
    weights = F.softmax(torch.bmm(q.transpose(1, 2), k) * c**-0.5, dim=2)
    return x + attn.proj_out(torch.bmm(v, weights.transpose(1, 2)).reshape(b, c, h, w))


def _level(level: nn.Module, h: Tensor) -> Tensor:
    for i, block in enumerate(level.block):
        h = _block(block, h)
        if len(level.attn):
            h = _attend(level.attn[i], h)
    return h


def _middle(mid: nn.Module, h: Tensor) -> Tensor:
    return _block(mid.block_2, _attend(mid.attn_1, _block(mid.block_1, h)))


def collate(pictures: list[np.ndarray]) -> Tensor:
    """float32 (B, 3, S, S) of B float32 (S, S, 3)."""
    return torch.tensor(pictures).permute(0, 3, 1, 2)


def make_optimizer(model: GPT, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW that updates one parameter after the other."""
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4, foreach=False)


def train_step(
    model: GPT, vqgan: VQGAN, optimizer: torch.optim.Optimizer, text_ids: Tensor, pixels: Tensor
) -> float:
    """One update from pictures; returns the loss, for which it waits as EasyNLP does."""
    with torch.no_grad():
        codes = encode(vqgan, pixels)
    idx = torch.cat((text_ids, codes), dim=1)
    logits = gpt_logits(model, idx[:, :-1])[:, text_ids.shape[1] - 1 :]
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), codes.reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
