"""Inception's features and CLIP's vectors equal torch-fidelity's and transformers', in any company."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from painter_core.evaluation.features import ClipVectors, InceptionFeatures, clip_ids
from painter_core.evaluation.inception_input import inception_input
from painter_core.model_files.inception_file import load_inception
from painter_core.text.tokenizer import from_vocab
from tests.golden.formula import image
from tests.golden.make_evaluation import SIZES, clip_inputs
from tests.support.judges import CAPTIONS, TINY_CLIP, clip_vocab, inception_state, picture, write_clip
from tests.support.precision import products_after

CPU = torch.device("cpu")
ROWS = 2


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> InceptionFeatures:
    file = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(inception_state(), file)
    return InceptionFeatures(str(file), device=CPU, micro_batch_size=ROWS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipVectors:
    directory = write_clip(tmp_path_factory.mktemp("clip") / "clip")
    return ClipVectors(str(directory), device=CPU, micro_batch_size=ROWS)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_features_are_torch_fidelitys(
    height: int, width: int, inception: InceptionFeatures, golden: dict[str, np.ndarray]
) -> None:
    pictures = [image(i, 300)[:height, :width] for i in range(2)]
    found = inception(np.stack([inception_input(p, "torch-fidelity") for p in pictures]))
    wanted = golden[f"features_{height}x{width}"]
    assert np.abs(wanted).mean() > 0.4  # of the size of real ones, so that 1e-4 says something
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_features_of_a_picture_are_the_same_in_any_company(inception: InceptionFeatures) -> None:
    inputs = np.stack([inception_input(picture(i), "clean") for i in range(ROWS + 1)])
    together = inception(inputs)
    assert together.dtype == np.float32
    assert together.shape == (ROWS + 1, 2048)
    np.testing.assert_array_equal(inception(inputs[ROWS:]), together[ROWS:])
    np.testing.assert_array_equal(inception(inputs[::-1]), together[::-1])


def test_vectors_are_transformers(clip: ClipVectors, golden: dict[str, np.ndarray]) -> None:
    pictures, ids = clip_inputs()
    np.testing.assert_allclose(clip.images(pictures), golden["clip_images"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(clip._texts(ids), golden["clip_texts"], rtol=0, atol=1e-5)
    assert not np.allclose(golden["clip_texts"][0], golden["clip_texts"][1], atol=0.01)


def test_captions_become_ids_as_cn_clip_makes_them() -> None:
    tokenizer = from_vocab(clip_vocab().encode())
    word = tokenizer.encode([CAPTIONS[:3]])[0]
    ids = clip_ids(tokenizer, [CAPTIONS[:3], "红" * 200])
    assert ids.shape == (2, 52)
    assert ids[0].tolist() == [2, *word, 3, *[0] * 47]
    assert ids[1].tolist() == [2, *[word[0]] * 50, 3]  # cut, and still ended


def test_a_caption_has_one_vector_in_any_company(clip: ClipVectors) -> None:
    captions = ["红色格纹大码包", "蓝", "黑白条纹", "绿色圆点底", "红色格纹大码包"]
    together = clip.texts(captions)
    np.testing.assert_array_equal(together[0], together[4])
    np.testing.assert_array_equal(clip.texts(captions[3:4])[0], together[3])
    assert together.shape == (5, TINY_CLIP.projection_dim)
    np.testing.assert_allclose((together**2).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("form", ["legacy", "safetensors", "module", "half without counters"])
def test_a_weights_file_may_have_several_forms(form: str, tmp_path: Path) -> None:
    state, file = inception_state(), tmp_path / "weights.pth"
    if form == "legacy":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    elif form == "safetensors":
        file = file.with_suffix(".safetensors")
        save_file({name: t.float() for name, t in state.items() if t.ndim}, file)
    elif form == "module":
        torch.save({f"module.{name}": t for name, t in state.items()}, file)
    else:
        torch.save({n: t.half() for n, t in state.items() if t.is_floating_point()}, file)
    for name, tensor in load_inception(file).state_dict().items():
        wanted = state[name].half() if form.startswith("half") and tensor.is_floating_point() else state[name]
        assert torch.equal(tensor, wanted.to(tensor.dtype)), name


def test_judges_compute_in_float32_beside_a_painter_in_tf32(
    inception: InceptionFeatures, clip: ClipVectors
) -> None:
    pixels = np.stack([picture(i) for i in range(ROWS)])
    calls: list[Callable[[], object]] = [
        lambda: inception(np.stack([inception_input(p, "clean") for p in pixels])),
        lambda: clip.images(clip_inputs()[0]),
        lambda: clip.texts(list(CAPTIONS)),
    ]
    for call in calls:
        with products_after("tf32") as found:
            call()
        assert found == {"highest"}
