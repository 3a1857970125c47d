"""--variants and --augment: a table's codes stay, views stand beside them, training draws among both."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from painter_core.files.storage import sha256
from painter_core.models.gpt import GPTConfig
from painter_core.runs.flags import TableFlags
from painter_core.stages.codes_table import open_samples
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.stages.views import ViewFlags
from painter_core.tables.records import read_manifest
from painter_core.text.tokenizer import builtin_tokenizer
from painter_core.training.both_ways import BothWaysFlags
from painter_core.training.data_order import drawn_variants
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.regularisation import RegularisationFlags, draws_of
from painter_core.training.samples import Samples
from painter_core.training.tasks import task_of
from tests.support.codes_table import make_codes
from tests.support.local_run import code_of, faults, rows_of
from tests.support.training import ONE_CPU, curve_of, files_of, gpt_config, train_here

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

VIEWS = ViewFlags(variants=3, augment="flip,crop")


def column(table: Path, name: str) -> np.ndarray:
    """Codes of a table, (rows, length)."""
    parts = [pq.read_table(part) for part in sorted(table.glob("part-*"))]
    return np.concatenate([np.stack(part.column(name).to_pylist()) for part in parts])


@pytest.fixture(scope="module")
def plain(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("plain") / "codes")


@pytest.fixture(scope="module")
def many(pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_codes(pairs, tiny_vqgan, tmp_path_factory.mktemp("many") / "codes", views=VIEWS)


def opened(table: Path) -> Samples:
    return open_samples(str(table), builtin_tokenizer(), text_len=8, codebook_size=64)


def test_codes_are_those_of_a_table_without_views(plain: Path, many: Path) -> None:
    assert np.array_equal(column(plain, "codes"), column(many, "codes"))
    views = column(many, "views").reshape(-1, 2, column(many, "codes").shape[1])
    assert len(views) == len(column(plain, "codes"))
    same = (views == column(plain, "codes")[:, None]).mean(-1)
    assert (same < 0.9).mean() > 0.9
    manifests = [read_manifest(str(table)) for table in (plain, many)]
    assert "variants" not in manifests[0]
    assert manifests[1]["variants"] == 3
    assert manifests[1]["identity"].pop("views") == {"variants": 3, "augment": ["crop", "flip"], "seed": 42}
    assert manifests[0]["identity"] == manifests[1]["identity"]
    assert manifests[0]["rows_out"] == manifests[1]["rows_out"]


def test_who_reads_codes_finds_those_of_the_pictures(plain: Path, many: Path) -> None:
    found = [inspect(InspectConfig(tables=str(table))) for table in (plain, many)]
    assert found[0].codes is not None
    assert found[0].codes == found[1].codes


def test_a_broken_off_table_is_finished_to_the_same_rows(
    pairs: Path, tiny_vqgan: Path, many: Path, tmp_path: Path
) -> None:
    make_codes(pairs, tiny_vqgan, tmp_path / "codes", views=VIEWS, units=1)
    assert rows_of(make_codes(pairs, tiny_vqgan, tmp_path / "codes", views=VIEWS)) == rows_of(many)
    for other in (
        ViewFlags(),
        ViewFlags(variants=3, augment="crop"),
        ViewFlags(variants=2, augment="crop,flip"),
    ):
        again = lambda other=other: make_codes(pairs, tiny_vqgan, tmp_path / "codes", views=other)  # noqa: E731
        assert code_of(again) == 4
    assert code_of(lambda: make_codes(pairs, tiny_vqgan, tmp_path / "codes", views=VIEWS, random_seed=1)) == 4


def test_a_batch_has_the_view_that_was_drawn(plain: Path, many: Path) -> None:
    samples, rows = opened(many), np.array([9, 2, 5, 7])
    assert (opened(plain).variants, samples.variants) == (1, 3)
    variants = np.arange(len(samples)) % 3
    _, codes = samples.batch(rows, ONE_CPU.device, None, variants)
    views = column(many, "views").reshape(len(samples), 2, -1)
    every = np.concatenate((column(many, "codes")[:, None], views), 1)
    assert codes.tolist() == [every[row, row % 3].tolist() for row in (2, 5, 7, 9)]
    assert samples.batch(rows, ONE_CPU.device)[1].tolist() == column(many, "codes")[[2, 5, 7, 9]].tolist()


def test_views_are_drawn_by_seed_epoch_and_row() -> None:
    found = drawn_variants(3, 1, 900, 3)
    assert sorted(np.bincount(found))[0] > 250
    assert np.array_equal(found, drawn_variants(3, 1, 900, 3))
    assert not np.array_equal(found, drawn_variants(3, 2, 900, 3))
    assert not np.array_equal(found, drawn_variants(4, 1, 900, 3))


def test_a_training_on_views_is_broken_off_and_goes_on(
    plain: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = f"{many},{plain}"
    train_here(gpt_config(tables, tmp_path / "alone", epoch_num=2.0))
    for name, value in faults(tmp_path / "faults", "train_step:EIO:7").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match="train_step"):
        train_here(gpt_config(tables, tmp_path / "model", epoch_num=2.0))
    monkeypatch.setenv("PAINTER_ENABLE_FAULTS", "0")
    assert train_here(gpt_config(tables, tmp_path / "model", epoch_num=2.0))
    assert curve_of(str(tmp_path / "model")) == curve_of(str(tmp_path / "alone"))
    weights = [files_of(str(tmp_path / name))["last/gpt.safetensors"] for name in ("model", "alone")]
    assert sha256(weights[0]) == sha256(weights[1])
    train_here(gpt_config(f"{plain},{plain}", tmp_path / "plain", epoch_num=2.0))
    assert curve_of(str(tmp_path / "plain")) != curve_of(str(tmp_path / "alone"))


def test_captions_are_learned_from_views_too(many: Path) -> None:
    samples, seen = opened(many), list[torch.Tensor]()
    settings = TrainConfig(tables="-", checkpoint_dir="-", both_ways=BothWaysFlags(image_to_text=1.0))
    geometry = {"text_len": 8, "image_len": 16, "n_layer": 1, "n_head": 1, "n_embd": 4}
    gpt = GPTConfig(codebook_size=64, directions=("image_to_text",), **geometry)  # type: ignore[arg-type]
    task = task_of(settings, gpt, samples, epoch=0)
    rows, variants = np.arange(6), drawn_variants(42, 0, len(samples), 3)

    def model(idx: torch.Tensor, num_painted: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(idx)
        return torch.zeros(num_painted, 64, 64), torch.zeros(len(idx) - num_painted, 8, 8000)

    task.sums(model, rows, ONE_CPU.device)  # type: ignore[arg-type]
    expected = samples.batch(rows, ONE_CPU.device, None, variants)[1]
    assert torch.equal(seen[0][:, :16], expected)
    assert not torch.equal(expected, samples.batch(rows, ONE_CPU.device)[1])


def test_what_is_off_draws_nothing(plain: Path) -> None:
    draws = draws_of(RegularisationFlags(), opened(plain), seed=1, epoch=0, caption_dropout=0.0)
    assert (draws.dropped, draws.keys, draws.variants) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variants": 2}, "--variants 2, --augment None: give both"),
        ({"augment": "crop"}, "--variants 1, --augment crop: give both"),
        (
            {"variants": 2, "augment": "crop,turn"},
            "--augment: got 'turn', expected some of crop",
        ),
        ({"variants": 257, "augment": "crop"}, "--variants"),
    ],
)
def test_other_flags_are_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewFlags(**given)


def test_a_seed_without_views_does_nothing() -> None:
    with pytest.raises(ValueError, match="--random-seed: does nothing without --variants and --augment"):
        PrecomputeConfig(table=TableFlags(tables="a", outputs="b"), random_seed=7)
