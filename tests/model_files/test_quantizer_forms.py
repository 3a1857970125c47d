"""The quantizer in a model directory: absent as before, named where it is another, never mistaken."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from painter_core.files.storage import file_sha256
from painter_core.model_files.directory import read_directory, write_model
from painter_core.model_files.open import open_model
from painter_core.models.vqgan import VQGAN
from tests.support.foreign import VQGAN_TINY, formula_state
from tests.training.test_vqgan_training import make_trainer

# of VQGAN_TINY with formula weights, as written before a directory could name its quantizer
CONFIG_SHA256 = "23481d4f293b211f19fe1545a8d25810119e1bbb00967f934254f2b1fd473002"
VQGAN_SHA256 = "39ae445240177d395ed0bb0ce001120ca34067acebb8af77ec563bde6cbc85a1"
CODES_SHA256 = "4838ab37fc63dd732fa62e2aa9c8d24195d574dab99122fc0dd6b2f6fb8d467f"


def write(directory: Path, quantizer: str = "nearest") -> Path:
    """A directory of the tiny VQGAN with formula weights."""
    config = replace(VQGAN_TINY, quantizer=quantizer)  # type: ignore[arg-type]
    model = VQGAN(config)
    model.load_state_dict(formula_state(VQGAN, config))
    write_model(directory, vqgan=model, card="c")
    return directory


def test_the_default_is_written_as_before(tmp_path: Path) -> None:
    directory = write(tmp_path / "vqgan")
    assert file_sha256(directory / "config.json") == CONFIG_SHA256
    assert file_sha256(directory / "vqgan.safetensors") == VQGAN_SHA256
    model = open_model(str(directory))
    assert model.vqgan_config == VQGAN_TINY
    assert model.codes_sha256() == CODES_SHA256
    write_model(tmp_path / "copy", vqgan=directory, card="c")
    assert file_sha256(tmp_path / "copy" / "config.json") == CONFIG_SHA256


@pytest.mark.parametrize("form", ["dot", "projected"])
def test_another_quantizer_comes_back(tmp_path: Path, form: str) -> None:
    directory = write(tmp_path / "vqgan", form)
    assert json.loads((directory / "config.json").read_text())["vqgan"]["quantizer"] == form
    model = open_model(str(directory))
    model.check_weights()
    assert model.vqgan_config == replace(VQGAN_TINY, quantizer=form)  # type: ignore[arg-type]
    assert model.load_vqgan().quantize.form == form
    write_model(tmp_path / "copy", vqgan=directory, card="c")
    assert open_model(str(tmp_path / "copy")).load_vqgan().quantize.form == form


def test_equal_tensors_of_another_quantizer_are_another_model(tmp_path: Path) -> None:
    nearest, dot = (open_model(str(write(tmp_path / form, form))) for form in ("nearest", "dot"))
    assert nearest.vqgan_sha256() != dot.vqgan_sha256()
    assert nearest.codes_sha256() != dot.codes_sha256()
    ours, theirs = nearest.load_vqgan().state_dict(), dot.load_vqgan().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("written", "edited"), [("nearest", "dot"), ("dot", "nearest")])
def test_an_edited_config_is_noticed(tmp_path: Path, written: str, edited: str) -> None:
    directory = write(tmp_path / "vqgan", written)
    spec = json.loads((directory / "config.json").read_text())
    spec["vqgan"]["quantizer"] = edited
    (directory / "config.json").write_text(json.dumps(spec))
    model = read_directory(directory)
    message = rf"of the quantizer '{written}', but config.json says '{edited}'"
    with pytest.raises(ValueError, match=message):
        model.check_weights()
    with pytest.raises(ValueError, match=message):
        model.load_vqgan()


def test_a_key_that_is_unknown_or_missing_is_still_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "vqgan")
    spec = json.loads((directory / "config.json").read_text())
    spec["vqgan"]["quantiser"] = "dot"
    del spec["vqgan"]["ch"]
    (directory / "config.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match=r"lacks \['ch'\] and has unknown \['quantiser'\]"):
        read_directory(directory)


@pytest.mark.parametrize("form", ["dot", "projected"])
def test_only_the_decoder_is_trained(form: str) -> None:
    geometry = replace(VQGAN_TINY, quantizer=form)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"quantizer '{form}'.*--decoder-only"):
        make_trainer(geometry)
    made = make_trainer(geometry, decoder_only=True, vqgan="given", micro_batch_size=2)
    before = {k: v.clone() for k, v in made.vqgan.state_dict().items()}
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    made.train_step(pictures)
    changed = {k.split(".")[0] for k, v in made.vqgan.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"decoder", "post_quant_conv"}
