"""Pictures that are painted on: what is kept stays, what follows is drawn behind it."""

import numpy as np
import pytest
import torch

from painter_core.models.gpt import GPT
from painter_core.painting.sampling import SamplingConfig, draw_codes, sample_codes
from painter_core.painting.starting import StartConfig, start_rows
from painter_core.painting.static_sampling import StaticSampler
from tests.golden.formula import fill
from tests.painting.test_static_sampling import GUIDED, LONG, formula_gpt, long_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST = 40  # of 81 codes


@pytest.mark.parametrize("config", [SamplingConfig(top_k=10), GUIDED])
def test_the_rest_is_drawn_behind_what_is_kept(config: SamplingConfig) -> None:
    text, uniforms = long_inputs(3, 1)
    start = torch.from_numpy(np.random.RandomState(5).randint(0, 32, (3, FIRST)))
    log_p, static_log_p = (torch.zeros(3, config.rows_per_picture, LONG.image_len) for _ in range(2))
    codes = sample_codes(formula_gpt(LONG), text, uniforms, config, start=start, log_p=log_p)
    assert torch.equal(codes[:, :FIRST], start)
    assert (log_p[:, :, :FIRST] == 0).all()
    assert (log_p[:, :, FIRST:] < 0).all()
    sampler = StaticSampler(formula_gpt(LONG), config, 3, scored=True)
    sampler.sample(text.flip(0), uniforms)  # leaves other codes
    assert torch.equal(sampler.sample(text, uniforms, start=start, log_p=static_log_p), codes)
    torch.testing.assert_close(static_log_p, log_p, atol=1e-5, rtol=1e-5)
    assert not torch.equal(
        sample_codes(formula_gpt(LONG), text, uniforms, config)[:, FIRST:], codes[:, FIRST:]
    )


def test_each_code_is_drawn_from_the_uncached_logits() -> None:
    model, config = GPT(LONG).eval(), SamplingConfig(top_k=10)
    weights = {k: torch.from_numpy(fill(k, tuple(t.shape))) for k, t in model.state_dict().items()}
    model.load_state_dict(weights)
    text, uniforms = long_inputs(2, 3)
    start = torch.from_numpy(np.random.RandomState(6).randint(0, 32, (2, FIRST)))
    codes = sample_codes(formula_gpt(LONG), text, uniforms, config, start=start)
    with torch.inference_mode():
        logits = model(torch.cat((text, codes[:, :-1]), 1))
        for step in range(FIRST, LONG.image_len):
            assert torch.equal(draw_codes(logits[:, step], uniforms[:, step], config), codes[:, step])


@pytest.mark.parametrize(
    ("share", "grid", "rows"),
    [(0.4375, 16, 7), (0.4375, 32, 14), (0.4375, 8, 4), (0.5, 16, 8), (0.03, 32, 1), (0.96, 16, 15)],
)
def test_a_share_is_whole_rows(share: float, grid: int, rows: int) -> None:
    assert start_rows(share, grid) == rows


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"init_share": 0.5}, "--init-share 0.5: goes with --init-image COLUMN or --init-codes COLUMN"),
        ({"init_image": "a", "init_share": 0.0}, "--init-share: got 0.0, expected above 0"),
        ({"init_image": "a", "init_share": float("nan")}, "--init-share: got nan"),
    ],
)
def test_flags_that_start_nothing(flags: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StartConfig(**flags)
    for share in (0.01, 0.99):
        with pytest.raises(
            ValueError, match=f"--init-share {share}: keeps .* of the 16 rows .*: 0.0625 to 0.9375"
        ):
            start_rows(share, 16)
