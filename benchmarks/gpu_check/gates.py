"""The gates that compare a device with the CPU: each returns what it found, or raises Failed.

Each runs in a process of its own. The models have the formula-like random weights of torch's own start; what
is compared does not depend on what they paint.
"""

import numpy as np
import torch

from painter_core.compute.devices import DTYPES, prepare_vqgan, set_inference
from painter_core.compute.gpu import compile_problem, gpu_problem
from painter_core.images.pixels import to_pixels
from painter_core.model_files.open import open_model
from painter_core.models.cached_gpt import CachedGPT
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.painting.graphs import FARTHEST, Capturer, Streams
from painter_core.painting.sampling import SamplingConfig, row_uniforms, sample_codes
from painter_core.painting.static_sampling import StaticSampler
from painter_core.sample.pictures import sample_row
from painter_core.training.gpt import train_step
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.optimizers import make_optimizers
from painter_core.training.samples import Samples
from painter_core.training.worker import Worker

CPU = torch.device("cpu")
ROWS = 8
GPT_CHECKED = GPTConfig(
    text_vocab_size=512, codebook_size=1024, text_len=32, image_len=256, n_layer=4, n_head=4, n_embd=256
)
SAMPLING = SamplingConfig(top_k=100)


class Failed(Exception):
    """A gate found something wrong."""


def check(is_right: bool, what: str) -> None:
    """Raises Failed with what was found."""
    if not is_right:
        raise Failed(what)


def environment(device: torch.device) -> str:
    """Driver, torch, hardware, and a compiler for torch.compile."""
    if device.type != "cuda":
        return f"{device}, torch {torch.__version__}"
    check(not gpu_problem(), gpu_problem())
    major, minor = torch.cuda.get_device_capability(device)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    found = f"{torch.cuda.get_device_name(device)}, sm{major}{minor}, torch {torch.__version__}, CUDA "
    found += f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, bf16 {bf16}"
    why = compile_problem(device)
    return f"{found}, torch.compile {'works' if not why else 'DOES NOT WORK: ' + why}"


@torch.inference_mode()
def encode(device: torch.device) -> str:
    """The bundled VQGAN in fp32: codes and pixels beside the CPU's; bf16 is told."""
    size = open_model("bundled").load_vqgan().config.image_size
    images = [sample_row(5, i, split="train", image_size=size).image.convert("RGB") for i in range(16)]
    pixels = to_pixels(np.stack([np.asarray(image) for image in images]))
    ours, theirs, near = (
        prepare_vqgan(open_model("bundled").load_vqgan(), where, precision)
        for where, precision in ((CPU, "fp32"), (device, "fp32"), (device, "bf16"))
    )
    set_inference("fp32")
    codes, found = ours.encode(pixels), theirs.encode(pixels.to(device)).cpu()
    same = float((codes == found).float().mean())
    off = float((ours.decode(codes) - theirs.decode(codes.to(device)).cpu()).abs().max()) * 127.5
    bf16 = float((near.encode(pixels.to(device)).cpu() == codes).float().mean())
    said = f"fp32: {same:.2%} of the codes, pixels off by {off:.3f} of 255; bf16: {bf16:.2%} of the codes"
    check(same >= 0.999 and off <= 1, said)
    return said


def _inputs(salt: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    config = GPT_CHECKED
    text = np.random.RandomState(salt).randint(
        config.codebook_size, config.vocab_size, (ROWS, config.text_len)
    )
    uniforms = np.stack([row_uniforms(salt, str(i), 0, config.image_len) for i in range(ROWS)])
    return torch.from_numpy(text).to(device), torch.from_numpy(uniforms).to(device)


def _model(device: torch.device, precision: str, *, compiled: bool = False) -> CachedGPT:
    torch.manual_seed(1)
    model = GPT(GPT_CHECKED).eval()
    for parameter in model.parameters():
        parameter.data *= 3  # or all codes would be about as likely
    return CachedGPT(model.to(device), DTYPES[precision], compiled=compiled)


def _same_rows(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.cpu() == b.cpu()).all(dim=1).float().mean())


def sample(device: torch.device) -> str:
    """Free-running fp32 codes beside the CPU's."""
    set_inference("fp32")
    found = sample_codes(_model(device, "fp32"), *_inputs(1, device), SAMPLING)
    same = _same_rows(found, sample_codes(_model(CPU, "fp32"), *_inputs(1, CPU), SAMPLING))
    # a row parts where a random number falls between two codes to the last digits
    check(same >= 0.75, f"only {same:.0%} of the rows are the CPU's")
    return f"{same:.0%} of {ROWS} rows are the CPU's"


def graphs(device: torch.device, *, compiled: bool = False) -> str:
    """Steps by graphs beside plain ones; two batches, and the first one again."""
    said = []
    for precision in ("fp32", "bf16"):
        set_inference(precision)
        capture = Capturer(Streams(device).sampling) if device.type == "cuda" else None
        model = _model(device, precision, compiled=compiled)
        sampler = StaticSampler(model, SAMPLING, ROWS, capture=capture)
        first, _, again = (sampler.sample(*_inputs(salt, device)) for salt in (1, 2, 1))
        check(torch.equal(first, again), f"{precision}: the same batch was drawn otherwise the second time")
        off = sampler.distance(_inputs(1, device)[0])
        plain = sample_codes(_model(device, precision), *_inputs(1, device), SAMPLING)
        told = f"{precision}: logits off by {off:.1e}, {_same_rows(first, plain):.0%} of the rows alike"
        check(off <= FARTHEST[precision], told)
        check(precision != "fp32" or _same_rows(first, plain) >= 0.75, told)
        said.append(told)
    return "; ".join(said)


def training(device: torch.device) -> str:
    """20 steps beside the CPU's in fp32, a short last batch among them; a NaN leaves the weights."""
    config = TrainConfig(tables="-", checkpoint_dir="-", learning_rate=1e-3, micro_batch_size=ROWS)
    text, _ = _inputs(1, CPU)
    codes = np.random.default_rng(1).integers(0, 64, (ROWS, GPT_CHECKED.image_len), np.uint16)
    samples = Samples(text_ids=text.numpy().astype(np.int32), codes=codes, pad_id=GPT_CHECKED.codebook_size)
    losses = {}
    for name, where in (("cpu", CPU), ("device", device)):
        torch.manual_seed(1)
        model = GPT(GPT_CHECKED).to(where)
        optimizers = make_optimizers(model, config)
        worker = Worker(rank=0, world_size=1, device=where, precision="fp32")
        batches = [np.arange(5 if step == 9 else ROWS) for step in range(20)]
        losses[name] = [
            float(train_step(model, optimizers, samples, rows, config, worker)[0]) for rows in batches
        ]
        before = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            model.ln_f.bias[0] = float("nan")
        loss, _ = train_step(model, optimizers, samples, np.arange(ROWS), config, worker)
        check(not np.isfinite(float(loss)), f"a NaN among the weights made a loss of {loss}")
        kept = all(
            torch.equal(a, b.detach())
            for a, (n, b) in zip(before, model.named_parameters(), strict=True)
            if n != "ln_f.bias"
        )
        check(kept, "a step whose loss was NaN changed the weights")
    off = max(abs(a - b) / b for a, b in zip(losses["device"], losses["cpu"], strict=True))
    check(off < 0.01, f"losses differ by {off:.2%}")
    return f"20 losses within {off:.3%} of the CPU's; a NaN leaves the weights"
