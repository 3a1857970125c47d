"""The models that judge: opened and checked in the driver's process, and named by their content."""

from pathlib import Path

from painter_core.compute.memory import vqgan_row_bytes
from painter_core.files.storage import absolute, file_sha256
from painter_core.model_files.chinese_clip import open_clip
from painter_core.model_files.directory import weights_bytes
from painter_core.model_files.inception_file import load_inception
from painter_core.model_files.open import name_for_workers, open_model
from painter_core.models.chinese_clip import ChineseCLIP
from painter_core.models.gpt import GPT
from painter_core.models.vqgan import VQGAN
from painter_core.stages.evaluate.config import OF_GPT, EvaluateConfig
from painter_core.stages.evaluate.judging import (
    ClipJudge,
    InceptionJudge,
    Judging,
    LikelihoodJudge,
    ReconstructionJudge,
)
from painter_core.stages.evaluate.measure import likelihood_pins, reconstruction_pins
from painter_core.stages.pins import clip_pins
from painter_core.training.perceptual_weights import load_perceptual, perceptual_files


def open_judges(config: EvaluateConfig) -> Judging:
    """What is computed of every picture of --tables.

    Raises:
        ValueError: a model cannot be read, or lacks what is asked of it.
    """
    columns = {"text": config.input.first_sequence, "image": config.input.second_sequence}
    return Judging(
        attributes=config.attributes,
        inception=_inception(config),
        clip=_clip(config.clip) if config.clip else None,
        likelihood=_likelihood(config.checkpoint_dir, config.wanted) if config.checkpoint_dir else None,
        reconstruction=_reconstruction(config) if config.reconstruction else None,
        columns=columns,
    )


def _inception(config: EvaluateConfig) -> InceptionJudge | None:
    if config.inception is None:
        return None
    file = Path(absolute(config.inception))
    load_inception(file)
    # KID, the Inception Score and rFID are of pictures as they are
    blurs = config.blurs if set(config.wanted) <= {"fid", "clip", *OF_GPT} else (0, *config.blurs)
    sha256 = file_sha256(file)
    return InceptionJudge(
        file=str(file), sha256=sha256, resize=config.resize, blurs=tuple(dict.fromkeys(blurs))
    )


def _clip(directory: str) -> ClipJudge:
    found = open_clip(absolute(directory))
    found.load()
    return ClipJudge(
        directory=absolute(directory),
        pins=clip_pins(absolute(directory)),
        image_size=found.config.image_size,
        width=found.config.projection_dim,
    )


def _likelihood(name: str, wanted: tuple[str, ...]) -> LikelihoodJudge:
    model = open_model(name)
    if model.gpt_config is None or model.vqgan_config is None:
        raise ValueError(f"--checkpoint-dir {name}: needs a GPT and a VQGAN (jobs/train.py writes both)")
    needed = {"caption": model.gpt_config.captions, "likelihood": model.gpt_config.paints}
    metrics = tuple(metric for metric in OF_GPT if metric in wanted)
    for metric in metrics:
        if not needed[metric]:
            only = "paints; train it with --image-to-text" if metric == "caption" else "captions"
            raise ValueError(f"--metrics {metric}: the model of --checkpoint-dir {name} only {only}")
    model.check_weights()
    return LikelihoodJudge(
        model=name_for_workers(name),
        pins=likelihood_pins(model, metrics),
        image_size=model.vqgan_config.image_size,
        is_codes=False,
        metrics=metrics,
    )


def _reconstruction(config: EvaluateConfig) -> ReconstructionJudge:
    name, perceptual = config.vqgan or "bundled", config.perceptual_weights
    vqgan = open_model(name)
    if vqgan.vqgan_config is None:
        raise ValueError(f"--vqgan {name}: this directory holds no VQGAN")
    vqgan.check_weights()
    files = perceptual_files(perceptual) if perceptual else []
    if files:
        load_perceptual(files)
    return ReconstructionJudge(
        vqgan=name_for_workers(name),
        pins=reconstruction_pins(vqgan, perceptual),
        image_size=vqgan.vqgan_config.image_size,
        perceptual=",".join(map(str, files)) or None,
    )


def memory_per_row(judging: Judging) -> int:
    """About how many bytes of memory a picture needs in the largest of the models."""
    needed = 0
    if judging.inception:
        needed = 40 * 2**20  # six of the largest feature maps, 64 x 147 x 147
    if judging.clip:
        needed = max(needed, 30 * 2**20)
    for judge in (judging.likelihood, judging.reconstruction):
        if judge is not None:
            model = open_model(judge.model if isinstance(judge, LikelihoodJudge) else judge.vqgan)
            needed = max(needed, vqgan_row_bytes(model.require_vqgan(), "fp32"))
    if judging.likelihood:
        gpt = open_model(judging.likelihood.model).require_gpt()
        logits = max(gpt.image_len * gpt.codebook_size, gpt.text_len * gpt.text_vocab_size)
        needed = max(needed, 3 * 4 * logits)  # and what softmax makes of them
    return needed


def weights_of(judging: Judging) -> int:
    """Bytes of all models' weights, which every model worker holds at once."""
    files, found = [], 0
    if judging.inception:
        files.append(judging.inception.file)
    if judging.clip:
        found += weights_bytes(ChineseCLIP, open_clip(judging.clip.directory).config)
    if judging.likelihood:
        model = open_model(judging.likelihood.model)
        found += weights_bytes(GPT, model.require_gpt()) + weights_bytes(VQGAN, model.require_vqgan())
    if judging.reconstruction:
        found += weights_bytes(VQGAN, open_model(judging.reconstruction.vqgan).require_vqgan())
        files += (judging.reconstruction.perceptual or "").split(",")
    return found + sum(Path(file).stat().st_size for file in files if file)


def files_of(judging: Judging) -> tuple[str, ...]:
    """Files and directories that workers read."""
    found = []
    if judging.inception:
        found.append(judging.inception.file)
    if judging.clip:
        found.append(judging.clip.directory)
    if judging.likelihood:
        found.append(judging.likelihood.model)
    if judging.reconstruction:
        found += [judging.reconstruction.vqgan, *(judging.reconstruction.perceptual or "").split(",")]
    return tuple(name for name in found if name)
