"""The article's commands as they stand there, `easynlp` replaced by our jobs: train, predict, pipeline.

The pretrained model is an EasyNLP directory of the published geometry, as thin as that can be; the names of
the article's files lead to tables of the test's own. The article's training command is given --codes-dir.
"""

import base64
import io
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from painter_core import pipeline
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.stages.make_gallery.entries import GalleryConfig, write_page
from painter_core.text.tokenizer import builtin_tokenizer
from tests.support.foreign import write_easynlp
from tests.support.jobs import ROOT, Jobs, sample_cell

TRAIN = """easynlp \\
    --mode=train \\
    --worker_gpu=1 \\
    --tables=MUGE_val_text_imgbase64.tsv,MUGE_val_text_imgbase64.tsv \\
    --input_schema=idx:str:1,text:str:1,imgbase64:str:1 \\
    --first_sequence=text \\
    --second_sequence=imgbase64 \\
    --checkpoint_dir=./finetuned_model/ \\
    --learning_rate=4e-5 \\
    --epoch_num=1 \\
    --random_seed=42 \\
    --logging_steps=100 \\
    --save_checkpoint_steps=1000 \\
    --sequence_length=288 \\
    --micro_batch_size=16 \\
    --app_name=text2image_generation \\
    --user_defined_parameters='
        pretrain_model_name_or_path=alibaba-pai/pai-painter-base-zh
        size=256
        text_len=32
        img_len=256
        img_vocab_size=16384
      ' """
PREDICT = """easynlp \\
    --mode=predict \\
    --worker_gpu=1 \\
    --tables=MUGE_test.text.tsv \\
    --input_schema=idx:str:1,text:str:1 \\
    --first_sequence=text \\
    --outputs=./T2I_outputs.tsv \\
    --output_schema=idx,text,gen_imgbase64 \\
    --checkpoint_dir=./finetuned_model/ \\
    --sequence_length=288 \\
    --micro_batch_size=8 \\
    --app_name=text2image_generation \\
    --user_defined_parameters='
        size=256
        text_len=32
        img_len=256
        img_vocab_size=16384
        max_generated_num=1
      ' """
VQGAN_THIN = VQGANConfig(
    ch=32, ch_mult=(1, 1, 1, 1, 1), num_res_blocks=1, attn_resolutions=(), z_channels=8, embed_dim=8
)
VOCAB = builtin_tokenizer()
GPT_THIN = GPTConfig(text_vocab_size=VOCAB.vocab_size, n_layer=1, n_head=12, n_embd=24)
PAIRS = 12
PROMPTS = ["宽松T恤", "红色 的 大号 杯子", "Dark Leather 皮鞋"]
AS_SEEN = ["宽松t恤", "红色的大号杯子", "darkleather皮鞋"]  # by the model: lower case, without spaces
TIMEOUT_S = 180


@pytest.fixture(scope="module")
def folder(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are run: tables, the zoo, and what the training command made."""
    folder = tmp_path_factory.mktemp("article")
    words = VOCAB.content.decode().splitlines()
    write_easynlp(folder / "zoo" / "pai-painter-base-zh", VQGAN_THIN, GPT_THIN, vocab=words)
    (folder / "MUGE_val_text_imgbase64.tsv").write_text(
        "".join(f"{i}\t{PROMPTS[i % 3]}{i}\t{sample_cell(i)}\n" for i in range(PAIRS)), encoding="utf-8"
    )
    (folder / "MUGE_test.text.tsv").write_text(
        "".join(f"{i}\t{text}\n" for i, text in enumerate(PROMPTS)), encoding="utf-8"
    )
    run(jobs, folder, TRAIN, "jobs/train.py", "--codes-dir=codes")
    return folder


def run(jobs: Jobs, folder: Path, command: str, job: str, more: str = "") -> None:
    """A command of the article, with flags of ours after it."""
    command = command.replace("easynlp", f"python '{ROOT}/{job}'", 1) + more
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=jobs.environment | {"PAINTER_ZOO": str(folder / "zoo")},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_training_starts_from_the_named_model(folder: Path) -> None:
    pretrained = open_model(str(folder / "zoo" / "pai-painter-base-zh"))
    trained = open_model(str(folder / "finetuned_model"))
    assert (trained.gpt_config, trained.vqgan_sha256()) == (GPT_THIN, pretrained.vqgan_sha256())
    before, after = pretrained.load_gpt().state_dict(), trained.load_gpt().state_dict()
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved <= 1.1 * 4e-5, "one step of AdamW at the article's learning rate"
    # the article validates on its training table: its codes are made once
    assert [path.name for path in (folder / "codes").iterdir()] == ["train"]


def test_prediction_gives_the_pipelines_pictures(jobs: Jobs, folder: Path, one_thread: None) -> None:
    run(jobs, folder, PREDICT, "jobs/generate.py")
    lines = (folder / "T2I_outputs.tsv").read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines]
    assert [cell[:2] for cell in cells] == [[str(i), text] for i, text in enumerate(PROMPTS)]
    generate = pipeline("text2image_generation", str(folder / "finetuned_model"), micro_batch_size=8)
    assert [result["gen_imgbase64"] for result in generate(PROMPTS)] == [cell[2] for cell in cells]
    picture = Image.open(io.BytesIO(base64.urlsafe_b64decode(cells[0][2])))  # as the article reads it
    assert picture.size == (256, 256)


def test_easynlps_own_lines(jobs: Jobs, folder: Path, one_thread: None) -> None:
    command = PREDICT.replace("max_generated_num=1", "max_generated_num=2")
    command = command.replace("T2I_outputs", "easynlp_lines")
    run(jobs, folder, command, "jobs/generate.py", "--easynlp-format")
    generate = pipeline(
        "text2image_generation", str(folder / "finetuned_model"), max_generated_num=2, micro_batch_size=8
    )
    cells = [png_of_pillow(picture) for picture in generate.images(PROMPTS)]
    expected = [f"{i}\t{text}\t{cells[2 * i : 2 * i + 2]}\n" for i, text in enumerate(AS_SEEN)]
    assert (folder / "easynlp_lines.tsv").read_text(encoding="utf-8") == "".join(expected)
    page = folder / "page.html"
    assert write_page(GalleryConfig(tables=str(folder / "easynlp_lines.tsv"), outputs=str(page))) == 3
    assert page.read_text(encoding="utf-8").count("data:image/") == 6, "read back, both of each row"


def png_of_pillow(picture: Image.Image) -> str:
    """As EasyNLP encodes it."""
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()
