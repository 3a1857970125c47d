"""Cases 53-62, 104 and 105 of the catalogue of bad inputs, by number: idx, captions, libraries, flags.

Every input is made here and goes through plan, reader and decoder as functions, between two good rows that
must come out. Where the design decides otherwise than the catalogue, a comment says so.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from painter_core.errors import Stop
from painter_core.model_files.directory import write_model
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT, GPTConfig
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.runs import command_line
from painter_core.runs.flags import TableFlags
from painter_core.runs.progress import Progress
from painter_core.stages.generate.config import GenerateConfig
from painter_core.stages.generate.identity import identity
from painter_core.stages.generate.paint import PaintUnits
from painter_core.stages.inspect_table.config import InspectConfig
from painter_core.stages.inspect_table.report import inspect
from painter_core.stages.precompute_codes import PrecomputeConfig
from painter_core.tables.inputs import find_files
from painter_core.tables.reader import UnitReader
from painter_core.tables.units import Unit, plan_units
from painter_core.text.ids import text_ids
from painter_core.text.tokenizer import from_vocab
from tests.support.catalogue import (
    CELL,
    GOOD,
    NOISE_B64,
    accepted,
    b64,
    case,
    encoded,
    plain,
    rejected,
    run,
    run_lines,
    table,
    write,
    write_pairs,
)

CASES: list = []


# --- 53-62: idx, captions --------------------------------------------------------------------------


@case(CASES, 53, "idx")
def _(root: Path) -> None:
    found = run_lines(root, f"\ta\t{CELL}", f"  \ta\t{CELL}", f"{'x' * 1025}\ta\t{CELL}")
    rejected(found, "idx_invalid", "empty|1,024", column="idx", rows=3)
    assert len(found.rejects[4]["idx"]) == 1024
    accepted(run_lines(root, f"{'x' * 1024}\ta\t{CELL}"))
    write_pairs(root / "t.parquet", 5, idx=pa.array(["0", None, "a\tb", "a\nb", "4"]))
    rejected(run(root / "t.parquet"), "idx_invalid", column="idx", rows=3)


@case(CASES, 54, "idx-twice")
def _(root: Path) -> None:
    # a row's key is (file, row): both rows are kept
    rows = accepted(run_lines(root, f"1\ta\t{CELL}", f"1\tb\t{CELL}"), 2, idx_repeated=1)
    assert [row["text"] for row in rows] == ["a", "b"]


@case(CASES, 55, "in-two-tables")
def _(root: Path) -> None:
    # a row of the validation table that is in the training table too: both tables together, by hash
    other = b64(encoded(plain((0, 0, 9))))
    train = write(root / "train.tsv", table(f"1\ta\t{CELL}", f"2\tb\t{other}"))
    valid = write(root / "valid.tsv", table(f"3\tc\t{CELL}", f"2\td\t{NOISE_B64}"))
    report = inspect(InspectConfig(tables=f"{train},{valid}"))
    assert (report.idx.num_repeated, report.idx.examples) == (1, ["2"])
    assert report.picture_cells is not None
    assert report.picture_cells.num_repeated == 1


@case(CASES, 56, "caption-empty")
def _(root: Path) -> None:
    blank = ["", "   ", "\u3000", "\u200b\u200d", "\ufeff", "\x00", "\u00a0\u2060"]
    found = run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(blank)))
    rejected(found, "text_empty", "invisible", column="text", rows=len(blank))
    write_pairs(root / "t.parquet", text=pa.array(["a", None, "b"]))
    rejected(run(root / "t.parquet"), "text_empty", column="text")


VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "pad", "红", "色", "a"]
TOKENIZER = from_vocab("\n".join(VOCAB).encode())


def tokens(text: str) -> list[str]:
    return [VOCAB[i] for i in TOKENIZER.encode([text])[0]]


@case(CASES, 57, "caption-long")
def _(root: Path) -> None:
    (row,) = accepted(run_lines(root, f"1\t{'红色' * 30}\t{CELL}"))
    found = text_ids(TOKENIZER, [row["text"]], text_len=32, codebook_size=8)
    assert (found.ids.shape, int(found.num_tokens[0])) == ((1, 32), 60)  # training logs how many were cut


@case(CASES, 58, "caption-unknown")
def _(root: Path) -> None:
    torch.manual_seed(0)
    vqgan = VQGANConfig(image_size=16, ch=32, ch_mult=(1, 1), num_res_blocks=1, attn_resolutions=(),
                        z_channels=4, embed_dim=4, codebook_size=8)  # fmt: skip
    gpt = GPTConfig(text_vocab_size=len(VOCAB), codebook_size=8, text_len=4, image_len=vqgan.grid_size**2,
                    n_layer=1, n_head=1, n_embd=8)  # fmt: skip
    write_model(root / "model", vqgan=VQGAN(vqgan), gpt=GPT(gpt), tokenizer=TOKENIZER, card="")
    config = GenerateConfig(table=TableFlags(tables="", outputs="x.tsv"), checkpoint_dir=str(root / "model"))
    write(root / "t.tsv", table("0\t红", "1\t绿👕", "2\t绿 色", "3\t\u0301"))
    files, columns = find_files(str(root / "t.tsv")), config.input.columns()
    (unit,) = plan_units(files, columns, micro_batch_size=2, limit=None)
    (row,) = UnitReader(files=files, columns=columns, stage="generate", keep_rejected=False).read([unit])
    made_by = identity(config, open_model(str(root / "model")))
    paint = PaintUnits(config=config, identity=made_by, precision="fp32", micro_batch_size=2)
    done = paint(row)
    lines = done.rejects.to_pylist()
    # 3: an accent alone leaves no token, case 56
    assert [(line["row"], line["reason"]) for line in lines] == [(2, "text_all_unk"), (4, "text_empty")]
    assert "all of 2 tokens are unknown" in lines[0]["detail"]
    assert done.table["idx"].to_pylist() == ["0", "2"]
    assert len(done.payload["pixels"]) == 2 * 16 * 16 * 3


@case(CASES, 59, "special-tokens")
def _(root: Path) -> None:
    # the design knows no switch: what is typed is text
    assert tokens("[PAD]红[SEP]") == ["[", "pad", "]", "红", "[", "[UNK]", "]"]


@case(CASES, 60, "normalisation")
def _(root: Path) -> None:
    texts = ["\uff21", "a\u0301", "\uf900", "红\u3000色", "Á"]
    rows = accepted(run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts))), 5)
    assert [row["text"] for row in rows] == texts
    assert [tokens(t) for t in texts] == [["[UNK]"], ["a"], ["[UNK]"], ["红", "色"], ["a"]]


@case(CASES, 61, "text-as-given")
def _(root: Path) -> None:
    text = "  RED 红色👕 T-Shirt  "
    assert accepted(run_lines(root, f"1\t{text}\t{CELL}"))[0]["text"] == text


@case(CASES, 62, "formulas")
def _(root: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x"]
    rows = accepted(run_lines(root, *(f"{i}\t{t}\t{CELL}" for i, t in enumerate(texts))), 4, text_formula=4)
    assert [row["text"] for row in rows] == texts  # kept; an export for spreadsheets is another table


# --- 104, 105 --------------------------------------------------------------------------------------


@case(CASES, 104, "library-fault")
def _(root: Path) -> None:
    # a library that lacks a function is a bug (exit code 1), never a bad picture
    write(root / "t.tsv", table(GOOD, GOOD))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("PIL.PngImagePlugin.PngImageFile.load_prepare")
        patch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: self.no_such_function())
        with pytest.raises(AttributeError):
            run(root / "t.tsv")
    # one that makes every row bad stops the run
    progress = Progress("precompute", "out/rejects", 0.01)
    record = {"rows_in": 300, "rows_out": 10, "rejected": '{"img_truncated": 290}'}
    units = [
        Unit(number=n, file=0, row_group=-1, start=0, stop=1, first_row=1, num_rows=300) for n in range(4)
    ]
    with progress.of(units, []):
        for unit in range(3):
            progress.add({"unit": unit, **record})
        with pytest.raises(
            Stop, match=r"1,160 of the first 1,200 rows .* img_truncated: this is not your data"
        ) as stop:
            progress.add({"unit": 3, **record})
    assert stop.value.code == 3


@case(CASES, 105, "unknown-flags")
def _(root: Path) -> None:
    flags = {
        "max-reject-fraction": ["--tables", "a", "--outputs", "b", "--max-reject-fractoin", "0.5"],
        "maybe": ["--tables", "a", "--outputs", "b", "--overwrite=maybe"],
        "--outputs": ["--tables", "a"],
        "": ["--tables", "a", "--outputs", "b", "--max-reject-fraction", "2"],
    }
    for word, arguments in flags.items():
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["precompute_codes.py", *arguments])
            patch.setattr(sys, "stderr", said)
            patch.setattr(sys, "stdout", said)
            with pytest.raises(SystemExit) as end:
                command_line.parse(PrecomputeConfig, "")
        assert end.value.code == 2
        assert word in said.getvalue()


@pytest.mark.parametrize("check", CASES)
def test_case(check: Callable[[Path], None], tmp_path: Path) -> None:
    check(tmp_path)
