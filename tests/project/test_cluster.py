"""cluster/: the local head as its users start it, and the YAML files as far as one can without a cluster."""

import ast
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
sys.path.insert(0, str(CLUSTER))  # a directory of scripts, not a package

import local_head  # noqa: E402
from process_table import descendants, end_processes, read_processes  # noqa: E402
from ray_head import Head  # noqa: E402

from painter_core.runs.cluster import KEEP_MEMORY  # noqa: E402

JOB = """
import os, sys, ray
ray.init(log_to_driver=False)

@ray.remote(runtime_env={"env_vars": {"WITH": "a runtime env"}})  # such workers are started through a shell
def executable():
    return sys.executable

print("arguments", sys.argv[1:])
print("executables", sorted({sys.executable, ray.get(executable.remote())}))
print("files", sorted(os.path.join(d, f)[2:] for d, _, files in os.walk(".") for f in files))
"""
START_S = 60  # generous: a busy machine with two cores
FLAGS = {
    "precompute_codes.py": {"tables", "vqgan", "outputs", "num-actors", "gpus-per-actor"},
    "train.py": {"tables", "model", "checkpoint-dir", "num-workers"},
    "generate.py": {"tables", "input-schema", "checkpoint-dir", "outputs", "num-actors", "gpus-per-actor"},
}
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A copy of a small project in a path with a space, and the head that was started there."""

    directory: Path
    python: str
    state: Path
    exports: str

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run the command in the project with the head's environment, as a user's shell would."""
        script = f'eval "$EXPORTS"; {command}'
        return _run(["sh", "-c", script], cwd=self.directory, env=CLEAN | {"EXPORTS": self.exports})

    def head(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run local_head.py in the project."""
        return _run([self.python, str(CLUSTER / "local_head.py"), *arguments], cwd=self.directory, env=CLEAN)


def _run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * START_S, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    directory = tmp_path_factory.mktemp("with space") / "a project"
    for name, text in {
        "jobs/x.py": JOB,
        ".gitignore": (ROOT / ".gitignore").read_text(),
        ".git/HEAD": "ref",
        "quickstart/codes/part-000000.parquet": "big",
        "painter_core/__pycache__/x.pyc": "compiled",
        "painter_core/x.py": "",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / ".venv").symlink_to(sys.prefix)
    python, state = str(directory / ".venv" / "bin" / "python"), directory.parent / "state"
    head = [python, str(CLUSTER / "local_head.py")]
    started = _run([*head, "start", "--num-cpus", "3", "--state", str(state)], env=CLEAN)
    assert started.returncode == 0, started.stderr
    yield Project(directory=directory, python=python, state=state, exports=started.stdout)
    _run([*head, "stop", "--state", str(state)], env=CLEAN)


def test_submitted_job_runs_in_a_path_with_a_space(project: Project) -> None:
    done = project.shell("ray job submit --working-dir . -- python jobs/x.py --flag 'a b' 颜色")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arguments ['--flag', 'a b', '颜色']" in done.stdout
    (executable,) = ast.literal_eval(re.findall(r"executables (\[.*\])", done.stdout)[0])
    assert os.path.samefile(os.path.dirname(executable), os.path.dirname(sys.executable))
    travelled = ast.literal_eval(re.findall(r"files (\[.*\])", done.stdout)[0])
    assert {name for name in travelled if "__pycache__" not in name} == {
        ".gitignore",
        "jobs/x.py",
        "painter_core/x.py",
    }


def test_head_is_private(project: Project) -> None:
    status = project.head("status", "--state", str(project.state))
    assert status.returncode == 0, status.stdout + status.stderr  # 1 if anything listens beyond the loopback
    assert "loopback only" in status.stdout
    token = Path(shlex.split(re.findall(r"export RAY_AUTH_TOKEN_PATH=(.*)", project.exports)[0])[0])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    refused = project.shell("RAY_AUTH_TOKEN=wrong ray job list")
    assert refused.returncode != 0
    again = project.head("start", "--state", str(project.state))
    assert again.stdout == project.exports


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 137)]
)
def test_run_hands_on_the_exit_code(command: list[str], code: int) -> None:
    assert local_head.run_command(command, CLEAN) == code


def test_run_needs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert local_head.run_command(["no such program"], CLEAN) == 127
    with pytest.raises(SystemExit, match="2"):
        local_head.main(["run"])
    assert "run -- make all" in capsys.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_run_leaves_no_process(project: Project, signum: signal.Signals) -> None:
    sleeper = ["sh", "-c", "echo $RAY_AUTH_TOKEN_PATH; sleep 600"]
    command = [sys.executable, str(CLUSTER / "local_head.py"), "run", "--num-cpus", "1", "--", *sleeper]
    run = subprocess.Popen(command, env=CLEAN, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    temp_dir = Path(run.stdout.readline().strip()).parent
    assert str(temp_dir) not in project.exports  # a second head, beside the project's
    (sleeping,) = (p.pid for p in read_processes().values() if p.parent == run.pid and p.session != p.pid)
    run.send_signal(signum)
    assert run.wait(timeout=START_S) == (143 if signum == signal.SIGTERM else -signal.SIGKILL)
    deadline = time.monotonic() + START_S
    while (left := Head.unlaunched(temp_dir).processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    if signum == signal.SIGTERM:
        assert sleeping not in read_processes()
        assert not temp_dir.exists()
    else:  # nobody was left to do it
        end_processes(lambda: descendants(sleeping, read_processes()), grace_s=1)
        shutil.rmtree(temp_dir)
    assert project.head("status", "--state", str(project.state)).returncode == 0


def _header_commands(path: Path) -> dict[str, list[str]]:
    """The words of each job's command in a file's header comment (or docstring), by script."""
    text = re.sub(r"^#+ ?", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = re.findall(r"python (?:/home/ray/painter/)?jobs/(\w+\.py) ([^#\n]*)", text)
    return {script: shlex.split(flags) for script, flags in reversed(lines)}  # the first one counts


@pytest.mark.parametrize(
    "name", ["local_head.py", "runtime_env.yaml", "rayjob.yaml", "ray-cluster.yaml", "Dockerfile"]
)
def test_header_says_the_three_commands(name: str) -> None:
    commands = _header_commands(CLUSTER / name)
    assert commands.keys() == FLAGS.keys()
    for script, words in commands.items():
        flags = [word for word in words if word.startswith("--")]
        assert {flag[2:] for flag in flags} <= FLAGS[script], script
        paths = [path for word in words if "/" in word for path in word.split(",")]
        assert paths
        assert all(re.match(r"/|s3://", path) for path in paths), f"{script}: a job refuses relative paths"


def _read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


def test_runtime_env_is_valid() -> None:
    from ray.runtime_env import RuntimeEnv

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    content = _read_yaml("runtime_env.yaml")
    RuntimeEnv(**content)
    constraint, *packages = content["pip"]["packages"]
    assert constraint == "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
    in_the_image = {"ray", "pyarrow", "numpy", "fsspec"}
    wanted = [line for line in declared if re.split(r"[^\w-]", line)[0] not in in_the_image]
    assert packages == wanted, "runtime_env.yaml must follow pyproject.toml"


def test_ray_cluster_is_valid() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    content = _read_yaml("ray-cluster.yaml")
    validate_config(fillout_defaults(content))  # what `ray up` does before it asks the cloud
    assert {"--env RAY_AUTH_MODE=token"} <= set(content["docker"]["run_options"])
    assert content["head_node_type"] in content["available_node_types"]
    (head,) = (line for line in content["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head


# KubeRay's ray.io/v1 types (apis/ray/v1) and Kubernetes' pod, as far as our manifest uses them: any key that
# is not here is a mistake. A set names the allowed values, a type the value's type, "!" a required key.
AMOUNTS = {"cpu": str, "memory": str, "nvidia.com/gpu": str}
POD = {
    "!spec": {
        "!containers": [
            {
                "!name": str,
                "!image": str,
                "securityContext": {"allowPrivilegeEscalation": {False}, "capabilities": {"drop": [{"ALL"}]}},
                "ports": [{"!containerPort": int, "name": str}],
                "!resources": {"!requests": AMOUNTS, "!limits": AMOUNTS},
                "volumeMounts": [{"!name": str, "!mountPath": str}],
            }
        ],
        "automountServiceAccountToken": {False},
        "securityContext": {
            "!runAsNonRoot": {True},
            "runAsUser": int,
            "runAsGroup": int,
            "fsGroup": int,
            "seccompProfile": {"type": {"RuntimeDefault"}},
        },
        "tolerations": [{"key": str, "operator": {"Exists"}, "effect": {"NoSchedule"}}],
        "volumes": [{"!name": str, "persistentVolumeClaim": {"!claimName": str}, "emptyDir": {}}],
    }
}
RAY_JOB = {
    "!apiVersion": {"ray.io/v1"},
    "!kind": {"RayJob"},
    "!metadata": {"!generateName": str},
    "!spec": {
        "!entrypoint": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "SidecarMode"},
        "!shutdownAfterJobFinishes": {True},
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "runtimeEnvYAML": str,
        "!rayClusterSpec": {
            "!rayVersion": str,
            "!authOptions": {"!mode": {"token"}},
            "!headGroupSpec": {
                "serviceType": {"ClusterIP"},
                "!rayStartParams": {"dashboard-host": str, "num-cpus": str},
                "!template": POD,
            },
            "!workerGroupSpecs": [
                {
                    "!groupName": str,
                    "replicas": int,
                    "!minReplicas": int,
                    "!maxReplicas": int,
                    "!rayStartParams": {},
                    "!template": POD,
                }
            ],
        },
    },
}


def _mistakes(value: Any, wanted: Any, where: str = "") -> list[str]:
    if isinstance(wanted, set):
        return [] if value in wanted else [f"{where}: {value!r} is not one of {wanted}"]
    if isinstance(wanted, type):
        return [] if type(value) is wanted else [f"{where}: {value!r} is no {wanted.__name__}"]
    if not isinstance(value, type(wanted)):
        return [f"{where}: {value!r} is no {type(wanted).__name__}"]
    if isinstance(wanted, list):
        return [text for i, item in enumerate(value) for text in _mistakes(item, wanted[0], f"{where}[{i}]")]
    known = {key.removeprefix("!"): inner for key, inner in wanted.items()}
    found = [f"{where}.{key}: unknown" for key in value.keys() - known.keys()]
    found += [f"{where}.{key[1:]}: missing" for key in wanted if key.startswith("!") and key[1:] not in value]
    for key in value.keys() & known.keys():
        found += _mistakes(value[key], known[key], f"{where}.{key}")
    return found


def test_rayjob_is_valid() -> None:
    from ray.runtime_env import RuntimeEnv

    content = _read_yaml("rayjob.yaml")
    assert _mistakes(content, RAY_JOB) == []
    spec = content["spec"]
    RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    assert int(worker["resources"]["limits"]["nvidia.com/gpu"]) >= 1
    words = shlex.split(spec["entrypoint"])
    header = _header_commands(CLUSTER / "rayjob.yaml")
    assert words[:2] == ["python", "/home/ray/painter/jobs/precompute_codes.py"]
    assert words[2:] == header["precompute_codes.py"], "the entrypoint is the header's first command"


def test_rayjob_check_is_strict() -> None:
    content = _read_yaml("rayjob.yaml")
    content["spec"]["shutdownAfterJobFinishs"] = True
    del content["spec"]["rayClusterSpec"]["rayVersion"]
    content["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert sorted(mistake.rpartition(": ")[0] for mistake in _mistakes(content, RAY_JOB)) == [
        ".spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus",
        ".spec.rayClusterSpec.rayVersion",
        ".spec.shutdownAfterJobFinishs",
    ]


def test_dockerfile_and_manifests_agree() -> None:
    import ray

    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    version = re.findall(r"^ARG RAY_VERSION=(.+)$", dockerfile, flags=re.MULTILINE)
    job = _read_yaml("rayjob.yaml")
    assert version == [ray.__version__] == [job["spec"]["rayClusterSpec"]["rayVersion"]]
    assert re.findall(r"^USER (.+)$", dockerfile, flags=re.MULTILINE) == ["1000:100"]
    assert "-c constraints.txt" in dockerfile
    for name, value in KEEP_MEMORY.items():
        assert f"{name}={value}" in dockerfile
        assert Head.unlaunched("/tmp").variables[name] == value
    allowed = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", dockerfile, flags=re.MULTILINE):
        for source in line.split():
            assert f"!{source}" in allowed, f"{source} does not reach the build"
    images = {_read_yaml("ray-cluster.yaml")["docker"]["image"]}
    images |= set(re.findall(r"image: (\S+)", (CLUSTER / "rayjob.yaml").read_text(encoding="utf-8")))
    assert len(images) == 1
