"""The files behind `--perceptual-weights`: a VGG16 and, if given, LPIPS's linear heads, as users have them.

FILE or FILE,FILE: `features.N.weight` and `.bias` of torchvision's VGG16 (its `classifier.*` is left out),
and `lin0.model.1.weight` to `lin4.model.1.weight` of LPIPS. Each is a .safetensors file, or a pickle of
torch's, which is read without running anything in it.
"""

from pathlib import Path

from torch import Tensor

from painter_core.model_files.safetensors_file import compare_tensors
from painter_core.model_files.weights_file import check_finite, read_weights
from painter_core.models.perceptual import PerceptualDistance

CLASSIFIER = {f"classifier.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias")}
WANTED = "torchvision's VGG16 (features.N.weight, .bias) with LPIPS's heads (linK.model.1.weight) or none"


def perceptual_files(flag: str) -> list[Path]:
    """The files that a flag names.

    Raises:
        ValueError: a file is missing.
    """
    files = [Path(name.strip()).absolute() for name in flag.split(",")]
    for file in files:
        if not file.is_file():
            raise ValueError(f"--perceptual-weights {file}: no such file")
    return files


def load_perceptual(files: list[Path]) -> PerceptualDistance:
    """The distance with the weights of the files, all of them together.

    Raises:
        ValueError: a file cannot be read, or a tensor is missing, unknown, of another shape or not finite.
    """
    state: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in read_weights(file).items():
            if name in state:
                raise ValueError(f"{file}: {name} stands in another of the files too")
            if name not in CLASSIFIER:
                state[name] = tensor
    model = PerceptualDistance(heads=any(name.startswith("lin") for name in state))
    found, expected = ({k: list(t.shape) for k, t in s.items()} for s in (state, model.state_dict()))
    given = "--perceptual-weights " + ",".join(map(str, files))
    compare_tensors(given, found, expected, geometry=WANTED)
    check_finite(given, state)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return model
