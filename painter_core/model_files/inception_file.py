"""The user's Inception weights: pt_inception-2015-12-05-6726825d.pth of pytorch-fid's releases.

torch-fidelity's weights-inception-2015-12-05-6726825d.pth holds the same tensors. Batch norms' counters
(num_batches_tracked), of no use here, may be there or not, and so may the prefix `module.`.
"""

from pathlib import Path

import torch

from painter_core.model_files.safetensors_file import compare_tensors
from painter_core.model_files.weights_file import check_finite, read_weights
from painter_core.models.inception import Inception
from painter_core.models.unfilled import unfilled

COUNTER = ".num_batches_tracked"
EXPECTED = "Inception v3 of 2015-12-05 (pt_inception-2015-12-05-6726825d.pth)"


def load_inception(file: Path) -> Inception:
    """The network with the weights of a file, on the CPU.

    Raises:
        ValueError: the file cannot be read, or a tensor is missing, unknown, of another shape or not finite.
    """
    given = {name.removeprefix("module."): tensor for name, tensor in read_weights(file).items()}
    state = {name: tensor for name, tensor in given.items() if not name.endswith(COUNTER)}
    model = unfilled(Inception)
    wanted = {k: list(t.shape) for k, t in model.state_dict().items() if not k.endswith(COUNTER)}
    compare_tensors(str(file), {k: list(t.shape) for k, t in state.items()}, wanted, geometry=EXPECTED)
    check_finite(str(file), state)
    counters = {k: torch.tensor(0) for k in model.state_dict() if k.endswith(COUNTER)}
    model.load_state_dict({k: t.float() for k, t in state.items()} | counters, strict=True, assign=True)
    return model.requires_grad_(False).eval()
