"""Running jobs as users do, on a Ray head that tests share; tiny models and tables."""

import base64
import dataclasses
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from painter_core.model_files.directory import write_model
from painter_core.models.vqgan import VQGAN, VQGANConfig
from painter_core.sample.pictures import sample_row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "cluster"))  # a directory of scripts, not a package

from ray_head import Head, start_head, stop_head  # noqa: E402, F401  for conftest.py too

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
SMALL_VQGAN = dataclasses.replace(TINY_VQGAN, image_size=16)  # 16 codes, where no more are needed
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
        last = output.splitlines()[-1]
        assert code != 0 or re.match(r"\d\d:\d\d:\d\d next: ", last), f"no next step:\n{output}"
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


def write_vqgan(directory: Path, geometry: VQGANConfig) -> Path:
    """A model directory of a VQGAN with random weights."""
    torch.manual_seed(7)
    model = VQGAN(geometry)
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)  # so that codes differ
    write_model(directory, vqgan=model, card="# A VQGAN for tests\n")
    return directory


def strange_lines(printed: str) -> list[str]:
    """Lines of a job's log that are none of ours: ours begin with the time."""
    return [line for line in printed.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]


def sample_cell(index: int) -> str:
    """Base64 of sample picture `index`, as PNG."""
    out = io.BytesIO()
    sample_row(5, index, split="train", image_size=64).image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def table_bytes(directory: Path) -> dict[str, bytes]:
    """Every part of a table, by name."""
    return {p.name: p.read_bytes() for p in sorted(directory.glob("part-*.parquet"))}
