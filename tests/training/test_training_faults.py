"""Faults around training: checkpoints cut short or damaged (T17), parts that do not fit (T15).

With the job itself: tests/jobs/test_jobs_train_faults.py.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from painter_core.errors import Refused
from painter_core.files.storage import sha256
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.runs.flags import TableFlags
from painter_core.runs.run import Run
from painter_core.runs.training_run import TrainingRun
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.identity import identity as generate_identity
from painter_core.stages.train.plan import find_start, make_plan
from painter_core.tables.records import seal
from painter_core.text.tokenizer import Tokenizer, from_vocab
from painter_core.training.checkpoints import latest_checkpoint, publish, repair_published, save_checkpoint
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.run_flags import TrainingRunFlags
from tests.support.local_run import ALONE, contents, faults, killed

KEEP = 2

FILES = ("gpt.safetensors", "README.md", "training/state.pt")


def save(root: Path, step: int) -> Path:
    def write(directory: Path) -> None:
        for name in FILES:
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(f"{step} {name}")

    return save_checkpoint(root, step, write, keep=KEEP)


def steps(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "checkpoints").iterdir())


# a failpoint a file, then the marker is written, then the directory renamed, then old ones removed
@pytest.mark.parametrize("number", range(1, len(FILES) + 4))
def test_a_checkpoint_that_is_cut_short(number: int, tmp_path: Path) -> None:
    root = tmp_path / "model"
    for step in (1, 2):
        save(root, step)
    assert killed(lambda: save(root, 3), faults(tmp_path / "faults", f"checkpoint_save:kill:{number}"))
    newest = latest_checkpoint(root)
    assert newest is not None
    assert newest.name == ("step-00000003" if number == len(FILES) + 3 else "step-00000002")
    assert (newest / FILES[0]).read_text() == f"{int(newest.name[5:])} {FILES[0]}"
    assert not list((root / "checkpoints").glob(".*")), "what was cut short is removed"
    save(root, 3)
    save(root, 4)
    assert steps(root) == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_published_model_is_whole_or_repaired(number: int, tmp_path: Path) -> None:
    best = tmp_path / "best"
    publish(best, save(tmp_path, 1))
    second = save(tmp_path, 2)
    assert killed(lambda: publish(best, second), faults(tmp_path / "f", f"checkpoint_publish:kill:{number}"))
    repair_published(best)
    assert (best / FILES[0]).read_text().startswith("2" if number == 3 else "1")
    publish(best, second)
    assert {str(p.relative_to(best)) for p in best.rglob("*")} == {
        "gpt.safetensors", "README.md", "checkpoint.json"
    }  # fmt: skip
    assert {p.name for p in tmp_path.glob(".*")} == set()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("name", [*FILES, "checkpoint.json"])
@pytest.mark.parametrize("how", [damage, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:5])])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    name: str, how: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    how(tmp_path / "checkpoints/step-00000002" / name)
    if name == "checkpoint.json" and how is damage:  # it may still be JSON: then a size or a sum differs
        (tmp_path / "checkpoints/step-00000002" / name).write_text('{"files": []}')
    newest = latest_checkpoint(tmp_path)
    assert newest == tmp_path / "checkpoints/step-00000001"
    assert "step-00000002 is not used" in caplog.text
    # the run goes on from step 1, another way: the damaged one must not push the good one out
    save_checkpoint(tmp_path, 2, lambda directory: (directory / "a").write_text("2"), keep=1)
    assert steps(tmp_path) == ["step-00000002"]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoints/step-00000002"


def test_damaged_newer_ones_do_not_push_good_ones_out(tmp_path: Path) -> None:
    for step in (6, 9):
        save(tmp_path, step)
    damage(tmp_path / "checkpoints/step-00000009" / FILES[0])
    save_checkpoint(tmp_path, 7, lambda directory: (directory / "a").write_text("7"), keep=1)
    assert steps(tmp_path) == ["step-00000007"]


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(tmp_path: Path) -> None:
    def take_up() -> TrainingRun:
        run = Run({})
        training = TrainingRun("train", "--checkpoint-dir", str(tmp_path / "model"), run)
        training.take_up({"a": 1}, {}, TrainingRunFlags(), needed_bytes=0, reads=[])
        run.ended()
        return training

    training = take_up()
    for step in (1, 2):
        damage(save(Path(training.root), step) / FILES[0])
    with pytest.raises(ValueError, match="none of 2 checkpoints is whole"):
        take_up()


SMALL = {"ch": 32, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (), "z_channels": 4}


def vqgan_config(image_size: int = 16, codebook_size: int = 32) -> VQGANConfig:
    return VQGANConfig(image_size=image_size, codebook_size=codebook_size, embed_dim=4, **SMALL)  # type: ignore[arg-type]


def vocabulary(words: str) -> Tokenizer:
    return from_vocab("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]).encode())


def write(directory: Path, *, seed: int = 1, words: str = "红黄", gpt: bool = True, **vqgan: int) -> Path:
    """A model directory."""
    torch.manual_seed(seed)
    config, tokenizer = vqgan_config(**vqgan), vocabulary(words)
    fitting = GPTConfig(
        text_vocab_size=tokenizer.vocab_size, codebook_size=config.codebook_size, text_len=4,
        image_len=config.image_len, n_layer=1, n_head=1, n_embd=8,
    )  # fmt: skip
    write_model(
        directory, vqgan=VQGAN(config), gpt=GPT(fitting) if gpt else None,
        tokenizer=tokenizer if gpt else None, card="",
    )  # fmt: skip
    return directory


OTHERS = {
    "vqgan": {"seed": 2},
    "image size": {"image_size": 32},
    "codebook": {"codebook_size": 64},
    "vocabulary": {"words": "蓝绿"},
    "vocabulary size": {"words": "红黄蓝"},
}


def train_config(tables: str, pretrained: Path, out: Path) -> TrainConfig:
    return TrainConfig(tables=tables, checkpoint_dir=str(out), pretrained_model_name_or_path=str(pretrained))


@pytest.mark.parametrize("other", ["vqgan", "image size", "codebook"])
def test_a_model_that_does_not_fit_the_codes_is_refused_by_train(other: str, tmp_path: Path) -> None:
    codes, model = write(tmp_path / "codes", gpt=False), write(tmp_path / "model", **OTHERS[other])
    with pytest.raises(ValueError, match=r"is not the one that made the codes|the tables hold 64 out of 32"):
        find_start(train_config("x", model, tmp_path / "out"), open_model(str(codes)))
    fitting = write(tmp_path / "fitting")
    assert find_start(train_config("x", fitting, tmp_path / "out"), open_model(str(codes))).pretrained[
        "pretrained_sha256"
    ]


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("job", ["train", "generate"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_part_of_another_model_is_refused(job: str, other: str, sums: bool, tmp_path: Path) -> None:
    """Its file alone is put in the place of the model's own; without sums, the directory is made by hand."""
    model, foreign = write(tmp_path / "model"), write(tmp_path / "foreign", **OTHERS[other])
    names = ["vocab.txt"] if other.startswith("vocabulary") else ["gpt.safetensors"]
    if other == "vqgan":
        names = ["vqgan.safetensors"]
    if other == "image size":
        names = ["gpt.safetensors", "config.json"]  # its positions, and the VQGAN of 16 x 16
        config = json.loads((foreign / "config.json").read_text())
        own = json.loads((model / "config.json").read_text())
        (foreign / "config.json").write_text(json.dumps(own | {"gpt": config["gpt"]}))
    codes = write(tmp_path / "codes", gpt=False)
    for name in names:
        shutil.copyfile(foreign / name, model / name)
    if not sums:
        (model / "checkpoint.json").unlink()
    before = contents(tmp_path)

    def use() -> object:
        opened = open_model(str(model))
        if job == "generate":
            table = TableFlags(tables="x", outputs="y")
            return generate_identity(GenerateConfig(table=table, checkpoint_dir=str(model)), opened)
        return find_start(train_config("x", model, tmp_path / "out"), open_model(str(codes)))

    if (job, other, sums) == ("generate", "vqgan", False):
        # a model directory without sums does not say which VQGAN its GPT was trained with; a run that was
        # begun with the other one is refused by its fingerprint
        assert use() != generate_identity(
            GenerateConfig(table=TableFlags(tables="x", outputs="y"), checkpoint_dir="m"),
            open_model(str(write(tmp_path / "again"))),
        )
        return
    with pytest.raises(ValueError, match=str(tmp_path)):
        use()
    assert contents(tmp_path) == before


def codes_table(directory: Path, vqgan: Path, claimed: str = "") -> Path:
    """As far as training's preflight reads it."""
    sha = claimed or open_model(str(vqgan)).vqgan_sha256()
    shutil.copytree(vqgan, directory / "_run" / "vqgan")
    (directory / "part-000000.parquet").write_bytes(b"PAR1")
    (directory / "_run" / "commits").mkdir()
    (directory / "_run" / "commits" / "000000.json").write_text("{}")
    part = {"name": "part-000000.parquet", "rows": 1, "bytes": 4, "sha256": sha256(b"PAR1")}
    manifest = {
        "table": "codes", "fingerprint": "f", "identity": {"vqgan_sha256": sha}, "rows_out": 1,
        "image_len": 4, "parts": [part],
    }  # fmt: skip
    (directory / "manifest.json").write_text(json.dumps(seal(manifest)))
    return directory


def test_codes_of_two_vqgans_or_of_none(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"vqgan{seed}", seed=seed, gpt=False) for seed in (1, 2))
    a, b = codes_table(tmp_path / "a", first), codes_table(tmp_path / "b", second)
    c = codes_table(tmp_path / "c", first, open_model(str(second)).vqgan_sha256())
    before = contents(tmp_path)
    for tables, message in (
        (f"{a},{b}", "made by different VQGANs"),
        (str(c), "but the codes were made by"),
        (str(first), "not finished"),
    ):
        with pytest.raises((ValueError, Refused), match=message):
            make_plan(TrainConfig(tables=tables, checkpoint_dir=str(tmp_path / "out")), Run({}), ALONE)
    assert contents(tmp_path) == before
