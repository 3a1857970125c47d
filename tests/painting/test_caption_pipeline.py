"""pipeline("image2text_generation", ...): every form of a picture, the captions of jobs/caption.py."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from painter_core import pipeline
from tests.support.captioning import caption_table, config_of, write_captioner
from tests.support.jobs import sample_cell
from tests.support.painting import write_painter

pytestmark = pytest.mark.usefixtures("one_thread")

TASK = "image2text_generation"
HERE = {"device": "cpu", "precision": "fp32", "micro_batch_size": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(tmp_path_factory.mktemp("pipeline") / "model")


def test_paths_pictures_and_base64_have_the_captions_of_the_job(model: Path, tmp_path: Path) -> None:
    cells = [sample_cell(i) for i in range(5)]
    rows = tmp_path / "rows.tsv"
    rows.write_text("".join(f"{i}\t{cell}\n" for i, cell in enumerate(cells)))
    expected = caption_table(config_of(model, rows, tmp_path / "out", input_schema="idx,imgbase64"))
    files = [tmp_path / f"{i}.png" for i in range(5)]
    for file, cell in zip(files, cells, strict=True):
        file.write_bytes(base64.b64decode(cell))
    caption = pipeline(TASK, str(model), **HERE)
    forms = [cells, files, [str(file) for file in files], [file.read_bytes() for file in files]]
    forms.append([Image.open(io.BytesIO(base64.b64decode(cell))) for cell in cells])
    for form in forms:
        found = caption(form)
        assert [row["gen_text"] for row in found] == expected["gen_text"].to_pylist()
        assert [row["score"] for row in found] == expected["score"].to_pylist()
    assert caption(cells[0]) == caption(cells[:1]) == found[:1]
    assert caption([]) == []


def test_several_captions(model: Path) -> None:
    found = pipeline(TASK, str(model), max_generated_num=3, top_k=50, **HERE)(
        [sample_cell(0), sample_cell(1)]
    )
    assert [len(row["gen_text"]) for row in found] == [3, 3]
    assert len({text for row in found for text in row["gen_text"]}) > 3


def test_what_is_wrong_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give the path of a model.*clip-gpt-i2t-base-zh, has another form"):
        pipeline(TASK)
    with pytest.raises(ValueError, match=r"does not caption; train it with .*--image-to-text"):
        pipeline(TASK, str(write_painter(tmp_path / "paints")), **HERE)
    with pytest.raises(ValueError, match="mean nothing for image2text_generation"):
        pipeline(TASK, str(model), keep_best=1, **HERE)
    with pytest.raises(ValueError, match="with --top-k 1 all captions"):
        pipeline(TASK, str(model), max_generated_num=2, **HERE)
    caption = pipeline(TASK, str(model), **HERE)
    with pytest.raises(ValueError, match=r"images\[1\]: .*"):
        caption([sample_cell(0), "AAAA"])
