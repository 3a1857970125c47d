"""EasyNLP's captioning model of base size with formula weights, by command line: the reference's words."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from painter_core.images.decode import encode_image
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from tests.golden.formula import image, vocab
from tests.model_files.test_convert_full_size import GOLDEN, run_job
from tests.support.easynlp_captioner import greedy, write_i2t

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cache")]


def test_base_size_by_command_line(tmp_path: Path) -> None:
    """EasyNLP directory -> convert_checkpoint, caption of two pictures by EasyNLP's own flags, greedy."""
    gpt = GPTConfig()
    state = write_i2t(tmp_path / "easynlp", VQGANConfig(), gpt)
    expected = greedy(state, np.load(GOLDEN / "vq_full.npz")["codes"].reshape(2, -1), gpt)
    del state
    lines = vocab()
    assert all(ids and not {100, 101, 102, 103} & set(ids) for ids in expected)
    model = tmp_path / "model"
    run_job("jobs/convert_checkpoint.py", "--source", str(tmp_path / "easynlp"), "--outputs", str(model))
    shutil.rmtree(tmp_path / "easynlp")
    cells = [base64.b64encode(encode_image(image(i, 256))).decode() for i in range(2)]
    (tmp_path / "pictures.tsv").write_text("".join(f"{i}\t{cell}\n" for i, cell in enumerate(cells)))
    run_job(
        "jobs/caption.py", "--mode=predict", "--app_name=image2text_generation", "--worker_gpu=0",
        f"--tables={tmp_path}/pictures.tsv", "--input_schema=idx:str:1,imgbase64:str:1",
        "--first_sequence=imgbase64", f"--outputs={tmp_path}/out.parquet", "--output_schema=idx,gen_text",
        f"--checkpoint_dir={model}", "--sequence_length=288", "--micro_batch_size=2", "--top_k=1",
        "--user_defined_parameters=enable_vqgan=True img_size=256 text_len=32 img_len=256",
        "--num-actors", "1",
    )  # fmt: skip
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["idx", "gen_text"]
    assert found["gen_text"].to_pylist() == ["".join(lines[i] for i in ids) for ids in expected]
