"""What several tests share: one Ray head for the whole run, a tiny VQGAN, tables, and running jobs as users
do."""

import base64
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from painter_core.checkpoint import write_model
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.sample_pictures import sample_row
from tests.fake_store import store  # noqa: F401  a fixture

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "cluster"))  # a directory of scripts, not a package

from ray_head import Head, start_head, stop_head  # noqa: E402

# whoever starts the tests in the background may have SIGINT ignored, and processes inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_VQGAN = VQGANConfig(
    image_size=32,
    ch=32,
    ch_mult=(1, 1, 2),
    num_res_blocks=1,
    attn_resolutions=(),
    z_channels=8,
    embed_dim=8,
    codebook_size=64,
)
TINY_GPT_FLAGS = ("--model", "tiny", "--n-layer", "2", "--n-head", "2", "--n-embd", "32", "--text-len", "16")
JOB_TIMEOUT_S = 180
# torch hands the paths of its headers to the compiler without quotes
compiles = pytest.mark.skipif(" " in torch.__file__, reason=f"torch.compile fails in {torch.__file__}")
ROWS = 160  # of the pairs table


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Runs jobs/*.py in processes of their own, on the shared head."""

    head: Head
    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        """Leads a driver, and `ray job submit`, to the shared head."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
        address = (Path(self.head.temp_dir) / "ray" / "ray_current_cluster").read_text().strip()
        path = f"{self.head.bin_dir}:{clean['PATH']}"
        return (
            clean
            | self.head.variables
            | {"RAY_ADDRESS": address, "PAINTER_CACHE": str(self.cache), "PATH": path}
        )

    def start(self, name: str, *flags: object, **environment: str) -> subprocess.Popen[str]:
        """A running job."""
        return subprocess.Popen(
            [sys.executable, ROOT / "jobs" / f"{name}.py", *map(str, flags)],
            env=self.environment | environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, name: str, *flags: object, code: int = 0, **environment: str) -> str:
        """What a job printed; fails unless it ends with `code`."""
        process = self.start(name, *flags, **environment)
        output, _ = process.communicate(timeout=JOB_TIMEOUT_S)
        assert process.returncode == code, (
            f"{name} ended with {process.returncode}, expected {code}:\n{output}"
        )
        return output

    def submit(self, name: str, *flags: object) -> str:
        """The same through `ray job submit`."""
        command = [
            "ray",
            "job",
            "submit",
            "--working-dir",
            ".",
            "--",
            "python",
            f"jobs/{name}.py",
            *map(str, flags),
        ]
        environment = {k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"}
        done = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            text=True,
            capture_output=True,
            timeout=JOB_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """Jobs on a head that lives as long as the test run."""
    head = start_head(max(2, os.cpu_count() or 2), dies_with_parent=True)
    yield Jobs(head=head, cache=tmp_path_factory.mktemp("cache"))
    stop_head(head)


@pytest.fixture(scope="session")
def tiny_vqgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a VQGAN with random weights: 32 x 32 pixels, 64 codes out of 64."""
    directory = tmp_path_factory.mktemp("models") / "vqgan"
    torch.manual_seed(7)
    model = VQGAN(TINY_VQGAN)
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)  # so that codes differ
    write_model(directory, vqgan=model, card="# A VQGAN for tests\n")
    return directory


def sample_cell(index: int) -> str:
    """Base64 of sample picture `index`, as PNG."""
    out = io.BytesIO()
    sample_row(5, index, split="train", image_size=64).image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="session")
def write_pairs() -> Callable[[Path, int], Path]:
    """Writes a pairs TSV of n rows; its few distinct pictures are drawn once."""
    cells = [sample_cell(i) for i in range(40)]

    def write(path: Path, rows: int) -> Path:
        lines = (
            f"r{i}\t{sample_row(5, i % 40, split='train').text}{i}\t{cells[i % 40]}\n" for i in range(rows)
        )
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory, write_pairs) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tsv", ROWS)


@pytest.fixture(scope="session")
def codes(jobs: Jobs, pairs: Path, tiny_vqgan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed codes table."""
    out = tmp_path_factory.mktemp("codes") / "codes"
    jobs.run("precompute_codes", "--tables", pairs, "--vqgan", tiny_vqgan, "--outputs", out)
    return out


@pytest.fixture(scope="session")
def model(jobs: Jobs, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a few steps."""
    out = tmp_path_factory.mktemp("model") / "model"
    flags = ("--learning-rate", "1e-3", "--precision", "fp32", "--micro-batch-size", "32")
    jobs.run("train", "--tables", codes, "--checkpoint-dir", out, *TINY_GPT_FLAGS, *flags)
    return out


def table_bytes(directory: Path) -> dict[str, bytes]:
    """Every part of a table, by name."""
    return {p.name: p.read_bytes() for p in sorted(directory.glob("part-*.parquet"))}
