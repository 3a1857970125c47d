"""How well a VQGAN gives a picture back: PSNR and SSIM of 8-bit pictures, uint8 (N, S, S, 3) each.

Without torch. LPIPS is painter_core.models.perceptual; rFID is the Frechet distance between Inception's
features of the pictures and of their reconstructions.
"""

import numpy as np

MOST_DB = 100.0
"""PSNR of equal pictures, which would be infinite: means stay finite."""
_SIGMA, _REACH = 1.5, 5  # SSIM's Gaussian window of 11 x 11 (Wang et al. 2004)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(pictures: np.ndarray, rec: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, float64 (N,), at most 100."""
    error = (pictures.astype(np.float64) - rec).reshape(len(pictures), -1)
    squares = (error**2).mean(1)
    with np.errstate(divide="ignore"):
        return np.minimum(10 * np.log10(255**2 / squares), MOST_DB)


def ssim(pictures: np.ndarray, rec: np.ndarray) -> np.ndarray:
    """Structural similarity, float64 (N,): 1 for equal pictures; mean over the channels.

    Windows that reach over an edge are left out, as in the paper; sides must be at least 11.
    """
    x, y = pictures.astype(np.float64), rec.astype(np.float64)
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    var_x, var_y = _smoothed(x * x) - mean_x**2, _smoothed(y * y) - mean_y**2
    both = _smoothed(x * y) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + _C1) * (2 * both + _C2)
    similar /= (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    return similar.mean((1, 2, 3))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) -> (N, H - 10, W - 10, 3)."""
    place = np.arange(-_REACH, _REACH + 1)
    weights = np.exp(-(place**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        length = values.shape[axis] - 2 * _REACH
        parts = (values.take(range(i, i + length), axis=axis) * w for i, w in enumerate(weights.tolist()))
        values = sum(parts, np.zeros(()))
    return values
