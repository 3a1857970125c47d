"""EasyNLP's command lines of image2text_generation in the flags of jobs/caption.py."""

import sys

import pytest

from painter_core.easynlp.flags import translate
from painter_core.runs.command_line import parse
from painter_core.stages.caption.config import CaptionConfig

# EasyNLP's example, paths shortened
PREDICT = [
    "--mode=predict",
    "--worker_gpu=1",
    "--tables=IC_test.txt",
    "--input_schema=idx:str:1,imgbase64:str:1,text:str:1",
    "--first_sequence=imgbase64",
    "--outputs=IC_outputs.tsv",
    "--output_schema=idx,gen_text",
    "--checkpoint_dir=./artist_i2t_model",
    "--sequence_length=288",
    "--micro_batch_size=8",
    "--app_name=image2text_generation",
    "--user_defined_parameters=img_size=256 text_len=32 img_len=256 max_generated_num=4 enable_vqgan=True",
]


def test_the_examples_command() -> None:
    assert translate(PREDICT, "caption") == [
        "--tables=IC_test.txt",
        "--input_schema=idx:str:1,imgbase64:str:1,text:str:1",
        "--second-sequence=imgbase64",
        "--outputs=IC_outputs.tsv",
        "--output_schema=idx,gen_text",
        "--checkpoint_dir=./artist_i2t_model",
        "--sequence_length=288",
        "--micro_batch_size=8",
        *("--top-k", "100"),
        *("--num-actors", "1"),
        *("--max-generated-num", "4"),
        *("--expect", "image_size=256,text_len=32,image_len=256"),
    ]


def test_it_makes_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["caption.py", *PREDICT])
    config = parse(CaptionConfig, None, easynlp="caption")
    assert config.input.second_sequence == "imgbase64"
    assert config.output_columns == ("idx", "gen_text")
    assert (config.sampling.top_k, config.max_generated_num) == (100, 4)


def test_both_sequences_change_places() -> None:
    argv = [
        "--app_name",
        "image2text_generation",
        "--first_sequence",
        "pic",
        "--second-sequence=cap",
        "--beam",
        "4",
    ]
    assert translate(argv, "caption") == ["--second-sequence", "pic", "--first-sequence=cap", "--beam", "4"]
    ours = ["--first-sequence", "cap", "--second-sequence", "pic"]
    assert translate(ours, "caption") == ours, "our own flags stay"
    greedy = ["--app_name=image2text_generation", "--top_k=1"]
    assert translate(greedy, "caption") == ["--top_k=1"]


@pytest.mark.parametrize(
    ("job", "argv", "message"),
    [
        (
            "caption",
            ["--app_name=text2image_generation"],
            "only image2text_generation is there; jobs/generate.py",
        ),
        (
            "generate",
            ["--app_name=image2text_generation"],
            "only text2image_generation is there; jobs/caption.py",
        ),
        ("train", ["--app_name=image2text_generation"], "jobs/train.py learns it with --image-to-text 1"),
        ("caption", ["--mode=train"], "--mode train: this job is for --mode predict"),
        ("caption", ["--user_defined_parameters=enable_vit=True"], "enable_vit=True: the form with a CLIP"),
        (
            "caption",
            ["--user_defined_parameters=enable_vqgan=False"],
            "enable_vqgan=False: only true is there",
        ),
        ("caption", ["--user_defined_parameters=imgsize=1"], "imgsize=1: means nothing to this job"),
    ],
)
def test_what_is_not_there_is_named(job: str, argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translate(argv, job)  # type: ignore[arg-type]
