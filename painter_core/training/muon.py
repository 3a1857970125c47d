"""torch's Muon, with its orthogonalisation in float32.

torch.optim.Muon computes it in bfloat16 whatever the weights are. That is fast where the hardware multiplies
bfloat16 quickly, as GPUs and CPUs with AMX do; on other CPUs float32 is 1.6 times as fast, and exact.
"""

import math

import torch
from torch import Tensor


class Muon32(torch.optim.Muon):
    """torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, in float32; the same state, so that a training
    goes on with either."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                update = matrix.grad.lerp(mean, momentum)  # Nesterov's
                matrix.mul_(1 - rate * group["weight_decay"])
                update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                matrix.add_(update, alpha=-rate * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """The matrix with its singular values brought near 1, by Newton and Schulz's iteration of degree five.

    Args:
        matrix: (rows, columns), float32.
        coefficients: of x, x^3 and x^5 for a singular value x.
        steps: iterations, at least one.
        eps: the least norm that is divided by.
    """
    a, b, c = coefficients

    def factor(gram: Tensor) -> Tensor:  # a + b g + c g^2
        found = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        found.diagonal().add_(a)
        return found

    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    rows, columns = wide.shape
    x = wide / wide.norm().clamp(min=eps)  # no singular value is above 1
    if 2 * columns <= 3 * rows:
        for _ in range(steps):
            x = factor(x @ x.mT) @ x
    else:
        # The factors are polynomials of one Gram matrix and commute. So all of them, and each next Gram
        # matrix, are found from (rows, rows) alone: less work from three columns to two rows on.
        gram = x @ x.mT
        product = step = factor(gram)
        for _ in range(steps - 1):
            gram = step @ gram @ step
            step = factor(gram)
            product = step @ product
        x = product @ x
    return x.mT if wide is not matrix else x
