"""EasyNLP's command lines in our flags: what passes through, what is translated, what is refused and how; and
what the flags do that are there for their sake."""

import dataclasses
import gzip
import sys
from pathlib import Path

import pytest

from painter_core.easynlp.flags import EasynlpJob, parse_parameters, translate
from painter_core.model_files.expected import check_expected
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPTConfig
from painter_core.models.vqgan import VQGANConfig
from painter_core.runs.command_line import parse
from painter_core.runs.flags import TableFlags
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.precompute_codes import PrecomputeConfig, identity
from painter_core.stages.train.codes import TrainJobConfig
from painter_core.stages.train.plan import find_start
from painter_core.tables.columns import Columns
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import plan_units
from painter_core.training.gpt_config import TrainConfig

# the commands of the article and of EasyNLP's examples, paths shortened
TRAIN = [
    "--mode=train",
    "--worker_gpu=1",
    "--tables=train.tsv,valid.tsv",
    "--input_schema=idx:str:1,text:str:1,imgbase64:str:1",
    "--first_sequence=text",
    "--second_sequence=imgbase64",
    "--checkpoint_dir=./finetuned_model/",
    "--learning_rate=4e-5",
    "--epoch_num=1",
    "--random_seed=42",
    "--logging_steps=100",
    "--save_checkpoint_steps=1000",
    "--sequence_length=288",
    "--micro_batch_size=16",
    "--app_name=text2image_generation",
]
PARAMETERS = """
    pretrain_model_name_or_path=alibaba-pai/pai-painter-base-zh
    size=256
    text_len=32
    img_len=256
    img_vocab_size=16384
"""
PREDICT = [
    "--mode=predict",
    "--worker_gpu=1",
    "--tables=MUGE_test.text.tsv",
    "--input_schema=idx:str:1,text:str:1",
    "--first_sequence=text",
    "--outputs=./T2I_outputs.tsv",
    "--output_schema=idx,text,gen_imgbase64",
    "--checkpoint_dir=./finetuned_model/",
    "--sequence_length=288",
    "--micro_batch_size=8",
    "--app_name=text2image_generation",
]
SIZES = "image_size=256,text_len=32,image_len=256,codebook_size=16384"


def test_the_articles_training_command() -> None:
    assert translate([*TRAIN, f"--user_defined_parameters={PARAMETERS}"], "train") == [
        *TRAIN[2:-1],
        *("--num-workers", "1"),
        *("--pretrained-model-name-or-path", "alibaba-pai/pai-painter-base-zh"),
        *("--expect", SIZES),
    ]


def test_the_articles_prediction_command() -> None:
    parameters = "size=256 text_len=32 img_len=256 img_vocab_size=16384 max_generated_num=4"
    assert translate([*PREDICT, "--user_defined_parameters", parameters], "generate") == [
        *PREDICT[2:-1],
        *("--num-actors", "1"),
        *("--max-generated-num", "4"),
        *("--expect", SIZES),
    ]


@pytest.mark.parametrize("job", ["precompute", "train", "generate"])
def test_our_own_flags_pass_untouched(job: EasynlpJob) -> None:
    ours = ["--tables", "a,b", "--overwrite", "--top-k", "1", "--precision=bf16", "--no-keep-rejected", "-h"]
    assert translate(ours, job) == ours
    assert translate([], job) == []


@pytest.mark.parametrize(
    ("job", "argv", "expected"),
    [
        ("train", ["--train_batch_size=8"], ["--micro-batch-size", "8"]),
        ("train", ["--train_batch_size=8", "--micro-batch-size=8"], ["--micro-batch-size=8"]),
        ("train", ["--checkpoint_path", "m"], ["--checkpoint-dir", "m"]),
        ("train", ["--wd=0.1", "--mn=2"], ["--weight-decay", "0.1", "--max-grad-norm", "2"]),
        ("train", ["--optimizer_type=AdamW", "--do_lower_case"], []),
        ("train", ["--optimizer", "muon"], ["--optimizer", "muon"]),
        ("train", ["--use_amp", "--epoch_num", "1"], ["--epoch_num", "1", "--precision", "bf16"]),
        ("train", ["--worker_gpu=4", "--worker_count=2"], ["--num-workers", "8"]),
        ("train", ["--worker_gpu=-1"], []),
        ("train", ["--worker_gpu=0"], ["--use-gpu", "no"]),
        ("generate", ["--worker-gpu", "0"], ["--gpus-per-actor", "0"]),
        ("generate", ["--worker_gpu=8", "--num_actors=8"], ["--num_actors=8"]),
        ("generate", ["--skip_first_line"], ["--skip_first_line"]),
        ("generate", ["--tables", "a,b"], ["--tables", "a,b"]),
        ("precompute", ["--mode=train", "--worker_gpu=2"], ["--num-actors", "2"]),
    ],
)
def test_translations(job: EasynlpJob, argv: list[str], expected: list[str]) -> None:
    assert translate(argv, job) == expected


@pytest.mark.parametrize(
    ("job", "parameters", "expected"),
    [
        ("train", "", []),
        ("train", "random_crop=False do_eval=True", []),
        (
            "train",
            "vqgan_ckpt_path=v.bin text_len=16 n_layer=24 n_head=16 n_embd=1024 size=256",
            ["--vqgan", "v.bin", "--text-len", "16", "--n-layer", "24", "--n-head", "16", "--n-embd", "1024",
             "--expect", "image_size=256"],
        ),
        ("train", "pretrain_model_name_or_path='a b=c'", ["--pretrained-model-name-or-path", "a b=c"]),
        ("precompute", "pretrain_model_name_or_path=m", ["--vqgan", "m"]),
        ("precompute", "vqgan_ckpt_path=m size=128", ["--vqgan", "m", "--expect", "image_size=128"]),
        ("generate", "text_vocab_size=21128", ["--expect", "text_vocab_size=21128"]),
    ],
)  # fmt: skip
def test_parameters(job: EasynlpJob, parameters: str, expected: list[str]) -> None:
    assert translate(["--user_defined_parameters", parameters], job) == expected


@pytest.mark.parametrize(
    ("job", "argv", "message"),
    [
        ("train", ["--mode=predict"], r"--mode predict: this job is for --mode train; run jobs/generate.py"),
        ("generate", ["--mode=train"], r"--mode train: .* run jobs/train.py"),
        ("generate", ["--mode=evaluate"], "--mode evaluate: .* run another job"),
        ("train", ["--app_name=clip"], "--app_name clip: only text2image_generation"),
        ("train", ["--mode"], "--mode: a value is missing"),
        ("train", ["--mode", "--tables=a"], "--mode: a value is missing"),
        ("train", ["--mode=train", "--mode=predict"], "--mode: given twice"),
        ("train", ["--optimizer=SGD"], "--optimizer SGD: AdamW and muon"),
        ("train", ["--use_amp=True"], "--use_amp: takes no value"),
        (
            "train",
            ["--use_amp", "--precision=fp32"],
            "--use_amp: means --precision bf16, .* --precision fp32",
        ),
        ("train", ["--worker_gpu=2", "--num-workers", "3"], "means --num-workers 2, .* --num-workers 3"),
        ("train", ["--worker_gpu=two"], "expected a whole number, got 'two'"),
        ("train", ["--worker_gpu=-2"], "expected 0 or more"),
        ("train", ["--wd=0.1", "--weight_decay=0.2"], "--wd: means --weight-decay 0.1, .* 0.2"),
        ("train", ["--resume_from_checkpoint=x"], "--resume_from_checkpoint: .* it resumes"),
        ("train", ["--data-threads=3"], "--data_threads: has no counterpart"),
        ("generate", ["--mode=predict", "--tables=a,b"], "--tables: EasyNLP paints the last"),
    ],
)
def test_contradictions_are_named(job: EasynlpJob, argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translate(argv, job)


@pytest.mark.parametrize(
    ("job", "parameters", "message"),
    [
        ("train", "size", "'size' is not key=value"),
        ("train", "size=256 size=128", "size is 256 and 128"),
        ("train", "size='256", "No closing quotation"),
        ("train", "siez=256", "siez=256: means nothing to this job, which knows .* size"),
        ("train", "text_len=32.5", "expected a whole number"),
        ("train", "random_crop=True", "only false is there"),
        ("train", "do_eval=False", "name one table"),
        ("train", "max_generated_num=4", "means nothing to this job"),
        ("generate", "pretrain_model_name_or_path=m", "means nothing to this job"),
        ("generate", "entity_num=10", "knowledge-enhanced"),
        ("train", "tokenizer_name_or_path=hfl/x", "--vocab vocab.txt"),
        ("precompute", "text_len=32", "means nothing to this job"),
    ],
)
def test_parameters_are_strict(job: EasynlpJob, parameters: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translate([f"--user_defined_parameters={parameters}"], job)


def test_parameters_conflict_with_flags() -> None:
    for argv in (
        ["--user_defined_parameters=max_generated_num=4", "--max-generated-num", "2"],
        ["--max_generated_num=2", "--user_defined_parameters=max_generated_num=4"],
    ):
        with pytest.raises(ValueError, match=r"max_generated_num=4: means --max-generated-num 4, .* 2"):
            translate(argv, "generate")
    same = ["--max-generated-num", "4", "--user_defined_parameters=max_generated_num=4"]
    assert translate(same, "generate") == ["--max-generated-num", "4"]


def test_parse_parameters() -> None:
    assert parse_parameters("a=1\n  b='x y' c=d=e a=1 f=") == {"a": "1", "b": "x y", "c": "d=e", "f": ""}


def test_check_expected() -> None:
    check_expected(SIZES, vqgan=VQGANConfig(), gpt=GPTConfig())
    check_expected("", vqgan=None, gpt=None)
    check_expected("image_len=256, n_layer=12", vqgan=None, gpt=GPTConfig())
    with pytest.raises(ValueError, match="image_size is 256, not 512; text_len is 32, not 31"):
        check_expected("image_size=512,text_len=31,n_head=12", vqgan=VQGANConfig(), gpt=GPTConfig())
    for wrong in ("text_len=32", "ch_mult=1", "x", "image_size"):
        with pytest.raises(ValueError, match="--expect"):
            check_expected(wrong, vqgan=VQGANConfig(), gpt=None)


def test_jobs_parse_the_articles_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *TRAIN, f"--user_defined_parameters={PARAMETERS}"])
    config = parse(TrainJobConfig, None, easynlp="train")
    assert (config.train.tables, config.train.run.num_workers) == ("train.tsv,valid.tsv", "1")
    assert config.train.pretrained_model_name_or_path == "alibaba-pai/pai-painter-base-zh"
    assert (config.train.sequence_length, config.train.expect) == (288, SIZES)
    assert (config.pairs.input.second_sequence, config.pairs.codes_dir) == ("imgbase64", None)
    monkeypatch.setattr(sys, "argv", ["generate.py", *PREDICT, "--skip_first_line"])
    config = parse(GenerateConfig, None, easynlp="generate")
    assert (config.table.outputs, config.model.micro_batch_size) == ("./T2I_outputs.tsv", 8)
    assert config.input.columns().skip_first_line


def test_a_contradiction_ends_with_code_2(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *TRAIN, "--mode=predict"])
    with pytest.raises(SystemExit) as end:
        parse(TrainJobConfig, None, easynlp="train")
    assert end.value.code == 2
    assert "--mode: given twice, as train and predict" in caplog.text


def test_sizes_are_compared_with_the_model() -> None:
    table = TableFlags(tables="a", outputs="b")
    bundled = open_model("bundled")
    identity(PrecomputeConfig(table=table, expect="image_size=64"), bundled)
    with pytest.raises(ValueError, match="image_size is 64, not 256"):
        identity(PrecomputeConfig(table=table, expect="image_size=256"), bundled)
    train = TrainConfig(tables="a", checkpoint_dir="b", expect="text_len=32,codebook_size=1024")
    assert find_start(train, bundled).gpt.text_len == 32
    with pytest.raises(ValueError, match="codebook_size is 1024, not 16384"):
        find_start(dataclasses.replace(train, expect="codebook_size=16384"), bundled)


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
@pytest.mark.parametrize(
    "first", ["0\tthe first row", "idx\ttext", "text\tidx", "編號 标题", "", "\ufeffid\tcaption"]
)
def test_the_first_line_is_skipped_whatever_it_holds(first: str, suffix: str, tmp_path: Path) -> None:
    data = (first + "\n" + "".join(f"{i}\ttext {i}\n" for i in range(1, 41))).encode()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    columns = Columns(schema=("idx", "text"), skip_first_line=True)
    files = find_files(str(path))
    units = plan_units(files, columns, micro_batch_size=16, limit=None)
    assert sum(unit.num_rows for unit in units) == 40
    reader = UnitReader(files=files, columns=columns, stage="test", keep_rejected=False)
    found = [line for row in reader.read(units) for line in row.table.to_pylist()]
    assert [(line["row"], line["idx"]) for line in found] == [(i + 1, str(i)) for i in range(1, 41)]
    assert all(data[line["byte_offset"] :].startswith(line["idx"].encode() + b"\t") for line in found)


def test_a_skipped_line_that_is_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("idx\ttext")
    columns = Columns(schema=("idx", "text"), skip_first_line=True)
    with pytest.raises(ValueError, match="no line end in the first 8 bytes"):
        plan_units(find_files(str(tmp_path / "a.tsv")), columns, micro_batch_size=16, limit=None)
