"""Drawing a code: the set that top-k and top-p leave, the distribution, one uniform a row and step."""

import numpy as np
import pytest
import torch
from torch import Tensor

from painter_core.painting.sampling import (
    MAX_LOGIT,
    MIN_TEMPERATURE,
    SamplingConfig,
    are_sound,
    draw_codes,
    row_uniforms,
)

SIZE = 50


def logits_of(rows: int, size: int = SIZE, seed: int = 0) -> Tensor:
    """Random logits."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((rows, size)).astype(np.float32)) * 2


def uniforms_of(rows: int, seed: int = 0) -> Tensor:
    """float32 in [0, 1)."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=seed)).random(rows, np.float32))


def allowed(logits: Tensor, config: SamplingConfig) -> set[int]:
    """The codes that may be drawn, by the definitions of top-k and top-p."""
    order = logits.argsort(descending=True).tolist()[: config.top_k or None]
    probabilities = torch.softmax(logits[order].double() / config.temperature, 0).tolist()
    kept, held = set(), 0.0
    for code, probability in zip(order, probabilities, strict=True):
        if held >= config.top_p:
            break
        kept.add(code)
        held += probability
    return kept


@pytest.mark.parametrize("top_k", [0, 1, 3, 10, SIZE, 1000])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_only_allowed_codes_are_drawn(top_k: int, top_p: float, temperature: float) -> None:
    config = SamplingConfig(top_k=top_k, top_p=top_p, temperature=temperature)
    (logits,) = logits_of(1, seed=top_k)
    uniforms = torch.cat((torch.tensor([0.0, 1 - 2**-24]), uniforms_of(2000)))
    drawn = draw_codes(logits.expand(len(uniforms), -1), uniforms, config)
    assert (drawn.dtype, drawn.shape) == (torch.int64, uniforms.shape)
    assert set(drawn.tolist()) <= allowed(logits, config)
    assert drawn[0] == logits.argmax()  # uniform 0 is the most likely code


@pytest.mark.parametrize("config", [SamplingConfig(top_k=1), SamplingConfig(top_k=0, top_p=1e-6)])
def test_greedy(config: SamplingConfig) -> None:
    logits = logits_of(200)
    assert torch.equal(draw_codes(logits, uniforms_of(200), config), logits.argmax(1))


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(top_k=0),
        SamplingConfig(top_k=5, temperature=2.0),
        SamplingConfig(top_k=0, top_p=0.8),
        SamplingConfig(top_k=8, top_p=0.9, temperature=0.5),
    ],
)
def test_the_distribution_is_the_softmax_over_allowed_codes(config: SamplingConfig) -> None:
    draws = 40_000
    (logits,) = logits_of(1, size=12, seed=3)
    drawn = draw_codes(logits.expand(draws, -1), uniforms_of(draws, seed=9), config)
    counts = np.bincount(drawn.numpy(), minlength=12)
    kept = sorted(allowed(logits, config))
    expected = np.zeros(12)
    expected[kept] = draws * torch.softmax(logits[kept].double() / config.temperature, 0).numpy()
    sigma = np.sqrt(expected * (1 - expected / draws))
    assert (abs(counts - expected) <= 5 * sigma + 1e-9).all()


@pytest.mark.parametrize("config", [SamplingConfig(), SamplingConfig(top_k=0, top_p=0.7, temperature=0.9)])
def test_a_row_does_not_depend_on_its_neighbours(config: SamplingConfig) -> None:
    logits, uniforms = logits_of(64), uniforms_of(64)
    together = draw_codes(logits, uniforms, config)
    alone = torch.cat([draw_codes(logits[i : i + 1], uniforms[i : i + 1], config) for i in range(64)])
    order = torch.from_numpy(np.random.RandomState(1).permutation(64))
    assert torch.equal(together, alone)
    assert torch.equal(together[order], draw_codes(logits[order], uniforms[order], config))


@pytest.mark.parametrize("scale", [1.0, 1e9, MAX_LOGIT / 30])
@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": MIN_TEMPERATURE, "top_k": 0}, {"temperature": MIN_TEMPERATURE, "top_k": 3},
        {"top_p": 1e-30, "top_k": 0}, {"top_p": 5e-324}, {"top_k": 1}, {"top_k": 1, "temperature": 100.0},
    ],
)  # fmt: skip
def test_extreme_settings_are_greedy(extreme: dict[str, float], scale: float) -> None:
    logits = logits_of(200) * scale
    assert are_sound(logits)
    drawn = draw_codes(logits, uniforms_of(200), SamplingConfig(**extreme))  # type: ignore[arg-type]
    assert torch.equal(drawn, logits.argmax(1))


@pytest.mark.parametrize("wide", [{"top_k": 2**31 - 1}, {"top_k": SIZE}, {"top_p": 1 - 2**-53}])
def test_settings_that_leave_all_codes(wide: dict[str, float]) -> None:
    config = SamplingConfig(**({"top_k": 0} | wide))  # type: ignore[arg-type]
    drawn = [draw_codes(logits_of(2000), uniforms_of(2000), c) for c in (config, SamplingConfig(top_k=0))]
    assert torch.equal(*drawn)


HOSTILE = torch.tensor([0.0, float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-38, 3.4e38])


@pytest.mark.parametrize("kind", ["mixed", "nan", "inf", "-inf", "one", "equal", "huge", "bf16"])
@pytest.mark.parametrize(
    "config", [SamplingConfig(), SamplingConfig(top_k=0, top_p=0.5), SamplingConfig(top_k=3)]
)
def test_t20_codes_stay_in_the_codebook_with_hostile_logits(kind: str, config: SamplingConfig) -> None:
    rows = 420  # x 8 x 3 = 10,080 draws
    rng = np.random.RandomState(5)
    logits = {
        "mixed": HOSTILE[torch.from_numpy(rng.randint(0, len(HOSTILE), (rows, SIZE)))],
        "nan": torch.full((rows, SIZE), float("nan")),
        "inf": torch.full((rows, SIZE), float("inf")),
        "-inf": torch.full((rows, SIZE), -float("inf")),
        "one": torch.full((rows, SIZE), -float("inf")).scatter(1, torch.full((rows, 1), 7), 0.0),
        "equal": torch.zeros(rows, SIZE),
        "huge": logits_of(rows) * 1e37,
        "bf16": logits_of(rows).bfloat16(),
    }[kind]
    uniforms = uniforms_of(rows)
    uniforms[:2] = torch.tensor([0.0, 1 - 2**-24])
    drawn = draw_codes(logits, uniforms, config)
    assert drawn.min() >= 0
    assert drawn.max() < SIZE
    if kind == "one":
        assert set(drawn.tolist()) == {7}
    if kind == "equal" and config.top_k == 0:
        assert len(set(drawn.tolist())) > SIZE // 4


def test_row_uniforms_are_fixed() -> None:
    np.testing.assert_array_equal(
        row_uniforms(42, "红-1", 0, 4),
        np.array(
            [0.27519965171813965, 0.2251843810081482, 0.5903459191322327, 0.49465155601501465], np.float32
        ),
    )
    np.testing.assert_array_equal(
        row_uniforms(42, "红-1", 1, 4),
        np.array(
            [0.6832934021949768, 0.5288727283477783, 0.25998014211654663, 0.6875103712081909], np.float32
        ),
    )
    long = row_uniforms(42, "红-1", 0, 10_000)
    assert long.dtype == np.float32
    assert long.min() >= 0
    assert long.max() < 1
    assert abs(long.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(long[:4], row_uniforms(42, "红-1", 0, 4))


def test_row_uniforms_depend_on_seed_idx_and_sample() -> None:
    keys = [
        (seed, idx, sample)
        for seed in (0, 1, 11)
        for idx in ("1", "11", "", "a\0b", "\udcff")
        for sample in (0, 1, 11)
    ]
    assert len({tuple(row_uniforms(*key, 3)) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("bad", "flag"),
    [
        ({"top_k": -1}, "--top-k"), ({"top_p": 0.0}, "--top-p"), ({"top_p": 1.1}, "--top-p"),
        ({"temperature": 0.0}, "--temperature"), ({"temperature": float("nan")}, "--temperature"),
        ({"temperature": 9e-7}, "--top-k 1"), ({"temperature": 1e-39}, "--top-k 1"),
        ({"temperature": 5e-324}, "--top-k 1"), ({"temperature": float("inf")}, "--temperature"),
        ({"top_p": float("nan")}, "--top-p"),
        ({"guidance_scale": 0.9}, "--guidance-scale"), ({"guidance_scale": float("nan")}, "--guidance-scale"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(bad: dict[str, float], flag: str) -> None:
    with pytest.raises(ValueError, match=flag):
        SamplingConfig(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda i: (42, str(i), 0), lambda i: (42, str(i + 1), 0)),  # neighbouring rows
        (lambda i: (42, str(i), 0), lambda i: (42, str(i), 1)),  # samples of a row
        (lambda i: (i, "1", 0), lambda i: (i + 1, "1", 0)),  # seeds
        (lambda i: (42, f"红-{i}", 0), lambda i: (43, f"红-{i}", 0)),
    ],
)
def test_row_uniforms_are_uncorrelated(one, other) -> None:
    """Neighbouring rows, samples, seeds and steps: z of 128,000 pairs, and of 63 steps apart."""
    a, b = (np.stack([row_uniforms(*key(i), 64) for i in range(2000)]) - 0.5 for key in (one, other))
    for left, right in ((a, b), (a[:, :-1], a[:, 1:]), (a[:, :-1], b[:, 1:])):
        z = (left * right).sum() / (np.sqrt(left.size) / 12)  # 1/12: variance of a uniform
        assert abs(z) < 4
