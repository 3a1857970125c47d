"""make test-s3: the jobs on a real S3 gateway (tests/support/s3_gateway.py), by the real client.

Its name keeps it out of the other test runs, which need neither s3fs nor Ceph. Each job has a Ray of its own;
what stands in the store afterwards is compared with what the same job leaves on a disk.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from painter_core.files.storage import filesystem
from painter_core.runs.run import Run
from painter_core.stages.make_table.config import MakeTableConfig
from painter_core.stages.make_table.run import make_table
from tests.support.jobs import ROOT, TINY_GPT_FLAGS
from tests.support.s3_gateway import Gateway
from tests.support.training import curve_of, files_of

BUCKET = "s3://painter-test"
ROWS = 800
OUTAGE_S = 20.0
TIMEOUT_S = 240
TRAIN = (
    *TINY_GPT_FLAGS, "--learning-rate", "1e-3", "--precision", "fp32", "--micro-batch-size", "32",
    "--save-checkpoint-steps", "10", "--epoch-num", "2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Store:
    """The gateway, and jobs that find it in their environment."""

    gateway: Gateway
    directory: Path
    """Where what is on the disk lies: pairs.parquet, the reference."""

    def start(self, name: str, *flags: object, **environment: str) -> subprocess.Popen[str]:
        """A running job; what it prints goes to a file."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PAINTER_"))}
        clean |= {"PAINTER_CACHE": str(self.directory / "cache")} | environment
        with open(self.directory / "log", "w") as log:
            return subprocess.Popen(
                [sys.executable, ROOT / "jobs" / f"{name}.py", *map(str, flags)],
                env=clean, cwd=ROOT, text=True, stdout=log, stderr=log,
            )  # fmt: skip

    def ended(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """What a job printed; fails unless it ends with `code`."""
        try:
            found = process.wait(TIMEOUT_S)
        finally:
            process.kill()
        printed = (self.directory / "log").read_text()
        assert found == code, f"{found}: {printed}"
        return printed

    def run(self, name: str, *flags: object, code: int = 0, **environment: str) -> str:
        """The same of a job that is not disturbed; prints its time."""
        began = time.monotonic()
        printed = self.ended(self.start(name, *flags, **environment), code)
        print(f"{name} {' '.join(str(f) for f in flags if '/' in str(f))}: {time.monotonic() - began:.1f} s")
        return printed

    def precompute(self, out: object) -> tuple[object, ...]:
        """The job that is disturbed: 32 units of 16 rows and more."""
        tables = f"{BUCKET}/pairs.parquet" if "://" in str(out) else self.directory / "pairs.parquet"
        flags = ("--micro-batch-size", "16", "--num-actors", "2", "--outputs", out)
        return "precompute_codes", "--tables", tables, *flags


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """The gateway with the pairs in its bucket; what the three jobs make of them on the disk is in local/."""
    root = Path(tempfile.mkdtemp(prefix="s3-", dir="/tmp"))
    began = time.monotonic()
    gateway = Gateway(root / "ceph")
    print(f"\nthe gateway is up after {time.monotonic() - began:.1f} s")
    os.environ.update(gateway.variables)
    try:
        found = Store(gateway=gateway, directory=root)
        with Run({}) as run:
            make_table(MakeTableConfig(sample=ROWS, outputs=str(root / "pairs.parquet")), run)
        fs, bucket = filesystem(BUCKET)
        fs.mkdir(bucket)
        fs.put_file(str(root / "pairs.parquet"), f"{bucket}/pairs.parquet")
        chain(found, root / "local")
        yield found
    finally:
        gateway.end()
        shutil.rmtree(root, ignore_errors=True)


def chain(store: Store, base: object) -> None:
    """The three jobs, each on what the one before has written."""
    prompts = store.directory / "prompts.tsv"
    prompts.write_text("".join(f"p{i}\t红色的杯子{i}\n" for i in range(20)), encoding="utf-8")
    if "://" in str(base):
        fs, path = filesystem(f"{BUCKET}/prompts.tsv")
        fs.put_file(str(prompts), path)
    store.run(*store.precompute(f"{base}/codes"))
    store.run("train", "--tables", f"{base}/codes", "--checkpoint-dir", f"{base}/model", *TRAIN)
    tables = f"{BUCKET}/prompts.tsv" if "://" in str(base) else prompts
    flags = ("--checkpoint-dir", f"{base}/model", "--outputs", f"{base}/painted.tsv")
    store.run("generate", "--tables", tables, "--precision", "fp32", "--micro-batch-size", "16", *flags)


def parts(directory: object) -> dict[str, bytes]:
    """The parts of a table, wherever it is."""
    return {name: data for name, data in files_of(str(directory)).items() if name.endswith(".parquet")}


def wait_for_commits(process: subprocess.Popen[str], out: str, count: int) -> None:
    fs, path = filesystem(out)
    deadline = time.monotonic() + TIMEOUT_S
    while not fs.exists(f"{path}/_run/commits") or len(fs.ls(f"{path}/_run/commits")) < count:
        assert process.poll() is None, "it was over before"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_three_jobs(store: Store) -> None:
    chain(store, f"{BUCKET}/chain")
    local, remote = store.directory / "local", f"{BUCKET}/chain"
    codes = parts(f"{remote}/codes")
    assert codes
    assert codes == parts(local / "codes")
    found, expected = files_of(f"{remote}/model"), files_of(str(local / "model"))
    models = {name: data for name, data in expected.items() if name.startswith(("best/", "last/"))}
    assert models
    assert {name: found[name] for name in models} == models
    fs, path = filesystem(f"{remote}/painted.tsv")
    assert fs.cat_file(path) == (local / "painted.tsv").read_bytes()


def test_a_killed_job_is_taken_up(store: Store) -> None:
    out = f"{BUCKET}/killed"
    process = store.start(*store.precompute(out))
    wait_for_commits(process, out, 4)
    process.kill()
    process.wait()
    printed = store.run(*store.precompute(out))
    assert "units are done" in printed
    assert parts(out) == parts(store.directory / "local" / "codes")


@pytest.mark.parametrize("kind", ["nothing listens", "nothing answers"])
def test_an_outage_is_waited_out(kind: str, store: Store) -> None:
    out, gateway = f"{BUCKET}/{kind.replace(' ', '-')}", store.gateway
    began = time.monotonic()
    process = store.start(*store.precompute(out))
    wait_for_commits(process, out, 4)
    (gateway.kill if kind == "nothing listens" else gateway.freeze)()
    time.sleep(OUTAGE_S)
    assert process.poll() is None, store.ended(process)
    (gateway.start if kind == "nothing listens" else gateway.thaw)()
    printed = store.ended(process)
    print(f"{kind} for {OUTAGE_S:.0f} s: rc 0 after {time.monotonic() - began:.1f} s")
    if kind == "nothing listens":
        assert "object store: " in printed
    assert parts(out) == parts(store.directory / "local" / "codes")
    assert json.loads(files_of(out)["summary.json"])["exit_code"] == 0


def test_a_killed_training_goes_on_on_another_machine(store: Store, tmp_path: Path) -> None:
    out, local = f"{BUCKET}/model", store.directory / "local"
    words = ("train", "--tables", f"{BUCKET}/chain/codes", "--checkpoint-dir", out, *TRAIN)
    process = store.start(*words, PAINTER_CACHE=str(tmp_path / "first"))
    deadline = time.monotonic() + TIMEOUT_S
    while not any(name.endswith("checkpoint.json") for name in files_of(out)):
        assert process.poll() is None, store.ended(process)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "_SUCCESS" not in files_of(out)
    printed = store.run(*words, PAINTER_CACHE=str(tmp_path / "second"))
    assert "resuming at step" in printed
    found, expected = files_of(out), files_of(str(local / "model"))
    models = {name: data for name, data in expected.items() if name.startswith(("best/", "last/"))}
    assert {name: found[name] for name in models} == models
    assert curve_of(out) == curve_of(str(local / "model"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "access denied"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "set AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_what_is_set_wrongly_is_code_2(wrong: dict[str, str], said: str, store: Store) -> None:
    no_keys_elsewhere = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(store.directory)}
    printed = store.run(*store.precompute(f"{BUCKET}/wrong"), code=2, **wrong, **no_keys_elsewhere)
    assert said in printed.splitlines()[-1]
    assert "Traceback" not in printed
