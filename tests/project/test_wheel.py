"""A wheel of the tree holds every folder and data file, and paints without the checkout."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from painter_core import pipeline
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
from painter_core.text.tokenizer import builtin_tokenizer
from tests.support.codes_table import make_codes
from tests.support.jobs import ROOT, TINY_VQGAN

PACKAGES = ("painter_core", "schemas")
CAPTIONS = ["红色T恤", "宽松的大号杯子"]
# Run without site-packages' .pth files (-S): the finder of an editable install would lead every folder that
# the wheel lacks to the checkout.
WITHOUT = """
import json, sys
site, third_party, model, captions, table, page = sys.argv[1:]
sys.path += [site, *third_party.split(":")]
import painter_core, torch
torch.set_num_threads(1)
paint = painter_core.pipeline("text2image_generation", model, device="cpu")
painted = paint(json.loads(captions))

from painter_core.model_files.open import open_model
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
write_page(GalleryConfig(tables=table, outputs=page))
bundled = open_model("bundled").vqgan_sha256()
modules = [m for name, m in sys.modules.items() if name.split(".")[0] in ("painter_core", "schemas")]
print(json.dumps({"painted": painted, "bundled": bundled, "files": [m.__file__ for m in modules]}))
"""


def run(*command: object, cwd: Path) -> str:
    """Standard output of a command that succeeds."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_tiny_model(directory: Path) -> Path:
    """A model directory with random weights."""
    torch.manual_seed(3)
    tokenizer = builtin_tokenizer()
    gpt = GPTConfig(
        text_vocab_size=tokenizer.vocab_size, codebook_size=TINY_VQGAN.codebook_size, text_len=8,
        image_len=TINY_VQGAN.image_len, n_layer=1, n_head=1, n_embd=8,
    )  # fmt: skip
    write_model(directory, vqgan=VQGAN(TINY_VQGAN), gpt=GPT(gpt), tokenizer=tokenizer, card="For tests")
    return directory


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout gets no build/."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", target, source, cwd=source)
    (file,) = target.glob("*.whl")
    return file


def test_every_file_is_in_the_wheel(wheel: Path) -> None:
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert {"painter_core/model_files/bundled/vqgan.safetensors", "schemas/pairs.py"} < expected
    with ZipFile(wheel) as content:
        found = {name for name in content.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_it_paints_without_the_checkout(
    wheel: Path, tiny_vqgan: Path, write_pairs, one_thread: None, tmp_path: Path
) -> None:
    """pipeline(), a gallery and the bundled VQGAN give there what they give here."""
    model, site = write_tiny_model(tmp_path / "model"), tmp_path / "site"
    table = make_codes(write_pairs(tmp_path / "pairs.tsv", 20), tiny_vqgan, tmp_path / "codes")
    install = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site, wheel)
    run(sys.executable, *install, cwd=tmp_path)
    third_party = ":".join(sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    arguments = (site, third_party, model, json.dumps(CAPTIONS), table, tmp_path / "there.html")
    there = json.loads(run(sys.executable, "-I", "-S", "-c", WITHOUT, *arguments, cwd=tmp_path))
    assert len(there["files"]) > 20
    assert [file for file in there["files"] if not Path(file).is_relative_to(site)] == []
    assert there["painted"] == pipeline("text2image_generation", str(model), device="cpu")(CAPTIONS)
    assert there["bundled"] == open_model("bundled").vqgan_sha256()
    assert write_page(GalleryConfig(tables=str(table), outputs=str(tmp_path / "here.html"))) == 20
    assert (tmp_path / "there.html").read_bytes() == (tmp_path / "here.html").read_bytes()
