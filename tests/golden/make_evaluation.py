"""Makes evaluation.npz: what torch-fidelity and transformers compute from the formula's weights and pictures.

python -m tests.golden.make_evaluation        in an environment with the packages of the extra `reference`

They are no requirement of the tests: torch-fidelity needs torchvision, of which the registry's build does not
load beside a CPU build of torch (its operators are declared here instead; none of them is called).
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from painter_core.models.chinese_clip import DEVIATION, MEAN
from tests.golden.formula import image, tokens
from tests.support.judges import TINY_CLIP, clip_state, inception_state, picture, write_clip

SIZES = ((64, 64), (256, 256), (299, 299), (200, 300))  # height, width
SETS = {"x": range(24), "y": range(100, 130)}  # of pictures: 24 judged, 30 of reference


def declare_operators() -> None:
    """Those that torchvision describes when it is imported."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_library"] = library  # it lives as long as this process


def inception(folder: Path) -> dict[str, np.ndarray]:
    """Features at several sizes, and FID, KID and IS of two folders of pictures."""
    from torch_fidelity import calculate_metrics
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    weights = str(folder / "inception.pth")
    torch.save(inception_state(), weights)
    extractor = FeatureExtractorInceptionV3("golden", ["2048"], feature_extractor_weights_path=weights)
    found = {}
    for height, width in SIZES:
        pictures = np.stack([image(i, 300)[:height, :width] for i in range(2)])
        found[f"features_{height}x{width}"] = extractor(torch.from_numpy(pictures.transpose(0, 3, 1, 2)))[
            0
        ].numpy()
    for name, numbers in SETS.items():
        (folder / name).mkdir()
        for i in numbers:
            Image.fromarray(picture(i)).save(folder / name / f"{i:03d}.png")
    metrics = calculate_metrics(
        input1=str(folder / "x"), input2=str(folder / "y"), cuda=False, isc=True, fid=True, kid=True,
        kid_subset_size=len(SETS["x"]), feature_extractor_weights_path=weights, verbose=False, cache=False,
    )  # fmt: skip
    return found | {name: np.array(value) for name, value in metrics.items()}


def clip() -> dict[str, np.ndarray]:
    """Vectors of transformers' ChineseCLIPModel."""
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    with tempfile.TemporaryDirectory() as folder:
        spec = write_clip(Path(folder) / "clip") / "config.json"
        config = ChineseCLIPConfig.from_json_file(spec)
    model = ChineseCLIPModel(config).eval()
    model.load_state_dict(clip_state(), strict=True)
    pictures, ids = clip_inputs()
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
    pixels = (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
    seen = torch.from_numpy(ids)
    with torch.no_grad():
        images = model.visual_projection(model.vision_model(pixel_values=pixels)[1])
        hidden = model.text_model(input_ids=seen, attention_mask=(seen != 0).long())[0]
        texts = model.text_projection(hidden[:, 0])
    found = {"clip_images": images, "clip_texts": texts}
    return {name: (v / v.norm(dim=1, keepdim=True)).numpy() for name, v in found.items()}


def clip_inputs() -> tuple[np.ndarray, np.ndarray]:
    """uint8 pictures (4, 32, 32, 3), and ids (4, 52) of captions of several lengths."""
    pictures = np.stack([picture(i, TINY_CLIP.image_size) for i in range(4)])
    ids = tokens(4, 52, 1, TINY_CLIP.vocab_size)
    for row, length in zip(ids, (52, 20, 3, 2), strict=True):
        row[length:] = 0
    return pictures, ids


def main() -> None:
    declare_operators()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = inception(Path(folder)) | clip()
    np.savez_compressed(Path(__file__).parent / "evaluation.npz", **found)
    for name, value in found.items():
        print(name, value if value.ndim == 0 else value.shape)


if __name__ == "__main__":
    main()
