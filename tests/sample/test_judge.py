"""The judge reads true pictures right, bears blur and compression, and finds chance where there is chance."""

import io

import numpy as np
import pytest
from PIL import Image

from painter_core.sample.captions import VALUES, Attributes
from painter_core.sample.judge import Judge, Score, score
from painter_core.sample.pictures import sample_row

SEED = 70_001  # not used while the drawing and the judge were made
NUM_PICTURES = 400
SIDE = 64


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def sample() -> tuple[list[Image.Image], list[Attributes]]:
    splits = ("train", "valid", "held_out")
    rows = [
        sample_row(SEED, index, split=splits[index % 3], image_size=SIDE) for index in range(NUM_PICTURES)
    ]
    return [row.image for row in rows], [row.attributes for row in rows]


@pytest.fixture(scope="module")
def read(judge: Judge, sample) -> list[Attributes]:
    """What the judge reads off the undisturbed pictures."""
    return judge.read(_pixels(sample[0]))


def _pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])  # (B, H, W, 3)


def _halved(image: Image.Image) -> Image.Image:
    small = image.resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
    return small.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def _jpeg(image: Image.Image) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=50)
    return Image.open(data).convert("RGB")


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(1).normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def test_every_attribute_is_read_right(sample, read: list[Attributes]) -> None:
    result = score(read, sample[1])
    assert min(result.attributes.values()) >= 0.99, result
    assert result.single >= 0.99


@pytest.mark.parametrize(
    "ways",
    [(_halved,), (_jpeg,), (_noisy,), (_halved, _jpeg, _noisy)],
    ids=["halved", "jpeg", "noisy", "all three"],
)
def test_every_attribute_is_read_right_in_worse_pictures(judge: Judge, sample, ways: tuple) -> None:
    images, wanted = (column[::2] for column in sample)
    for way in ways:
        images = [way(image) for image in images]
    result = score(judge.read(_pixels(images)), wanted)
    assert min(result.attributes.values()) >= 0.97, result
    assert result.single >= 0.97


def test_shuffled_wishes_are_met_by_chance_only(sample, read: list[Attributes]) -> None:
    wanted = sample[1]
    shuffled = [wanted[i] for i in np.random.default_rng(2).permutation(len(wanted))]
    result = score(read, shuffled)
    for name, share in result.attributes.items():
        assert share == pytest.approx(1 / len(VALUES[name]), abs=0.08)
    assert result.all_right < 0.02


def test_pictures_of_nothing_are_read_without_error(judge: Judge) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    flat = np.full((8, SIDE, SIDE, 3), 128, np.uint8)
    assert len(judge.read(np.concatenate([noise, flat]))) == 16
    assert judge.read(flat[:0]) == []


def test_a_picture_is_read_the_same_in_any_company(judge: Judge, sample) -> None:
    pixels = _pixels(sample[0][:70])
    together = judge.read(pixels)
    assert [judge.read(pixels[i : i + 1])[0] for i in (0, 63, 64, 69)] == [
        together[i] for i in (0, 63, 64, 69)
    ]


def test_larger_pictures_are_read_too() -> None:
    rows = [sample_row(SEED, index, split="valid", image_size=128) for index in range(60)]
    read = Judge(128).read(_pixels([row.image for row in rows]))
    assert score(read, [row.attributes for row in rows]).single >= 0.99


@pytest.mark.parametrize(
    "pixels", [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, SIDE, SIDE, 3), np.float32)]
)
def test_other_pixels_are_refused(judge: Judge, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        judge.read(pixels)


def test_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size"):
        Judge(32)


def test_score_counts_values_and_pictures() -> None:
    right = Attributes(kind="鞋", colour="红", pattern="条纹", background="白", size="大")
    nearly = Attributes(kind="鞋", colour="蓝", pattern="条纹", background="白", size="大")
    result = score([right, nearly], [right, right])
    wanted = {"kind": 1.0, "colour": 0.5, "pattern": 1.0, "background": 1.0, "size": 1.0}
    assert result == Score(num_pictures=2, attributes=wanted, single=0.9, all_right=0.5)
    with pytest.raises(ValueError, match="at least one"):
        score([], [])
