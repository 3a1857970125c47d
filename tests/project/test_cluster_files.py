"""The YAML files and the Dockerfile of cluster/, as far as one can check them without a cluster."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from painter_core.runs.cluster import KEEP_MEMORY
from tests.support.jobs import ROOT, Head

CLUSTER = ROOT / "cluster"
FLAGS = {
    "precompute_codes.py": {"tables", "vqgan", "outputs", "num-actors", "gpus-per-actor", "wait-for-gpus"},
    "train.py": {"tables", "model", "checkpoint-dir", "num-workers", "wait-for-gpus"},
    "generate.py": {
        "tables", "input-schema", "checkpoint-dir", "outputs", "num-actors", "gpus-per-actor",
        "wait-for-gpus",
    },
}  # fmt: skip


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
    assert packages == [*wanted, "s3fs"], "runtime_env.yaml must follow pyproject.toml"


def _check_as_ray_up_does(content: dict[str, Any]) -> None:
    """What `ray up` does before it asks the cloud: Ray's own ray-schema.json and rules."""
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    validate_config(fillout_defaults(content))


def test_ray_cluster_is_valid() -> None:
    content = _read_yaml("ray-cluster.yaml")
    _check_as_ray_up_does(content)
    assert {"--env RAY_AUTH_MODE=token"} <= set(content["docker"]["run_options"])
    (head,) = (line for line in content["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head


@pytest.mark.parametrize(
    "mistake",
    [
        {"max_worker": 2},
        {"idle_timeout_minutes": "15"},
        {"head_node_type": "boss"},
        {"max_workers": -1},
    ],
)
def test_ray_cluster_check_is_strict(mistake: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    with pytest.raises((ValidationError, ValueError)):
        _check_as_ray_up_does(_read_yaml("ray-cluster.yaml") | mistake)


def test_ray_up_runs_as_given() -> None:
    """What the header says to replace is all that is to be replaced; nothing is used that no node has."""
    text = (CLUSTER / "ray-cluster.yaml").read_text(encoding="utf-8")
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    content = _read_yaml("ray-cluster.yaml")
    types = content["available_node_types"].values()
    images = {node["node_config"]["ImageId"] for node in types}
    placeholders = [*images, content["docker"]["image"], content["file_mounts"]["/home/ray/store_keys"]]
    for placeholder in [*placeholders, "s3://bucket"]:
        assert re.search(rf"^#   {re.escape(placeholder)} +\S", header, flags=re.MULTILINE), placeholder
    (keys,) = content["docker"]["worker_run_options"]
    assert keys.split("=")[1].split()[0] in content["file_mounts"], "what workers reach the store with"
    for script, words in _header_commands(CLUSTER / "ray-cluster.yaml").items():
        paths = [path for word in words if "/" in word for path in word.split(",")]
        assert all(path.startswith("s3://bucket/") for path in paths), f"{script}: the nodes share no disk"
        assert "--wait-for-gpus" in words, "its GPU nodes are there when they are asked for"
    assert content["max_workers"] == content["available_node_types"]["gpu_worker"]["max_workers"]


# KubeRay's ray.io/v1 types and Kubernetes' pod, as far as our manifest uses them: any key that is not here
# is a mistake. A set names the allowed values, a type the value's type, "!" a required key. Compared with the
# CRDs of KubeRay 1.6.0 and 1.7.0 (2026-11-26): every key is there with this type, and all that they require.
CAPABILITIES = {"drop": [{"ALL"}]}
AMOUNTS = {"cpu": str, "memory": str, "nvidia.com/gpu": str}
POD = {
    "!spec": {
        "restartPolicy": {"Never", "OnFailure"},
        "!containers": [
            {
                "!name": str,
                "!image": str,
                "!securityContext": {
                    "allowPrivilegeEscalation": {False},
                    "capabilities": {"drop": [{"ALL"}]},
                },
                "ports": [{"!containerPort": int, "name": str}],
                "!resources": {"!requests": AMOUNTS, "!limits": AMOUNTS},
                "volumeMounts": [{"!name": str, "!mountPath": str}],
            }
        ],
        "!automountServiceAccountToken": {False},
        "!securityContext": {
            "!runAsNonRoot": {True},
            "runAsUser": int,
            "runAsGroup": int,
            "fsGroup": int,
            "seccompProfile": {"!type": {"RuntimeDefault"}},
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
        "!preRunningDeadlineSeconds": int,
        "!activeDeadlineSeconds": int,
        "!submitterPodTemplate": POD,
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
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never", "a Kubernetes Job wants it said"
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]


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
    assert '".[s3,gs,oss]"' in dockerfile, "the headers' s3:// commands need it"
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
