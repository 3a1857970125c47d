"""EasyNLP's command lines: its flags and user_defined_parameters as flags of our jobs.

A flag of the same name and meaning passes through untouched. One that only EasyNLP has is translated,
accepted where it agrees with the job, or refused with the flag to use instead; nothing is ignored.
docs/FROM_EASYNLP.md has the table.
"""

import shlex
from dataclasses import dataclass, field
from typing import Literal

from painter_core.easynlp import caption_flags

EasynlpJob = Literal["precompute", "train", "generate", "caption"]
MODE: dict[EasynlpJob, str] = {
    "precompute": "train", "train": "train", "generate": "predict", "caption": "predict",
}  # fmt: skip
APP = "text2image_generation"
RENAMED = {
    "train_batch_size": "micro-batch-size",
    "checkpoint_path": "checkpoint-dir",
    "wd": "weight-decay",
    "mn": "max-grad-norm",
}
# EasyNLP's own flags, without and with a value
SWITCHES = ("use_amp", "do_lower_case")
TAKEN = (
    "mode", "app_name", "worker_gpu", "worker_count", "optimizer_type", "optimizer",
    "user_defined_parameters",
)  # fmt: skip
REFUSED = {
    "resume_from_checkpoint": "submit the same command again, with the same --checkpoint-dir; it resumes",
    "save_all_checkpoints": "use --keep-checkpoints N",
    "modelzoo_base_dir": "set PAINTER_ZOO, or give the path of the model",
    "buckets": "give --tables and --outputs as URLs; credentials come from the environment",
    "odps_config": "tables of ODPS are not read; export them to Parquet or TSV",
    "label_name": "this task has no labels",
    "label_enumerate_values": "this task has no labels",
    "user_script": "it runs other people's code; write a job of your own",
    "user_entry_file": "it runs other people's code; write a job of your own",
    "use_torchacc": "torch.compile takes its place: --compile on (train)",
    "worker_cpu": "Ray shares out the CPUs; see --num-actors",
    "data_threads": "Ray shares out the CPUs; see --num-actors",
    "worker_hosts": "machines belong to the Ray cluster, see cluster/",
    "master_port": "machines belong to the Ray cluster, see cluster/",
    "distributed_backend": "it follows from --use-gpu",
    "local_rank": "processes are started by Ray",
    "predict_queue_size": "operators hand on a unit at a time",
    "predict_slice_size": "operators hand on a unit at a time",
    "predict_thread_num": "see --num-actors",
    "predict_table_read_thread_num": "see --num-actors",
    "restore_works_dir": "a run resumes from its own --outputs",
    "export_tf_checkpoint_type": "there is no TensorFlow export",
}
# user_defined_parameters that state a geometry -> its name in our configs
GEOMETRY = {
    "size": "image_size",
    "text_len": "text_len",
    "img_len": "image_len",
    "img_vocab_size": "codebook_size",
    "text_vocab_size": "text_vocab_size",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}
OF_VQGAN = ("image_size", "image_len", "codebook_size")
# flags of train, where no pretrained model says them
OF_NEW_GPT = ("text_len", "n_layer", "n_head", "n_embd")
PARAMETER_FLAGS: dict[EasynlpJob, dict[str, str]] = {
    "precompute": {"pretrain_model_name_or_path": "vqgan", "vqgan_ckpt_path": "vqgan"},
    "train": {"pretrain_model_name_or_path": "pretrained-model-name-or-path", "vqgan_ckpt_path": "vqgan"},
    "generate": {"max_generated_num": "max-generated-num"},
    "caption": {"max_generated_num": "max-generated-num"},
}
FIXED_PARAMETERS = {"random_crop": "false", "do_eval": "true"}
FIXED_ADVICE = {
    "random_crop": "pictures are encoded whole; --variants N --augment crop encodes crops beside them",
    "do_eval": "to train without validation, name one table in --tables",
}
REFUSED_PARAMETERS = {
    "tokenizer_name_or_path": "give the file itself: --vocab vocab.txt (train)",
    "entity_num": "the knowledge-enhanced model is not supported",
    "entity_emb_path": "the knowledge-enhanced model is not supported",
}


@dataclass(kw_only=True)
class _Line:
    """A command line while it is translated."""

    job: EasynlpJob
    kept: list[str] = field(default_factory=list)
    """Tokens that pass through."""
    given: dict[str, str] = field(default_factory=dict)
    """Values of the flags among them, by name with underscores."""
    taken: dict[str, str] = field(default_factory=dict)
    """Values of EasyNLP's own flags."""
    added: dict[str, str] = field(default_factory=dict)

    def add(self, flag: str, value: str, source: str) -> None:
        """Adds a flag, unless it is there with the same value; another value is an error."""
        key, flag = flag.replace("-", "_"), flag.replace("_", "-")
        before = self.given.get(key, self.added.get(key))
        if before is not None and not _equal(before, value):
            raise ValueError(f"{source}: means --{flag} {value}, but the command line says --{flag} {before}")
        if key not in self.given:
            self.added[key] = value


def translate(argv: list[str], job: EasynlpJob) -> list[str]:
    """A command line in our flags.

    Args:
        argv: flags of ours, of EasyNLP, or both; hyphens and underscores are the same.
        job: which job parses the result.

    Returns:
        argv with EasyNLP's own flags replaced. Unchanged if there are none.

    Raises:
        ValueError: a flag or parameter, which is named, contradicts the job or another flag, or has no
            counterpart.
    """
    line = _split(argv, job)
    _check_mode(line)
    if job == "caption" and "app_name" in line.taken:
        line.kept = caption_flags.swapped(line.kept)
        if not {"top_k", "beam", "score_only"} & set(line.given):
            line.add("top-k", caption_flags.TOP_K, "--app_name")
    for name, flag in RENAMED.items():
        if name in line.taken:
            line.add(flag, line.taken[name], f"--{name}")
    _workers(line)
    for name in ("optimizer_type", "optimizer"):
        kind = line.taken.get(name, "AdamW").lower()
        if kind not in ("adamw", "muon"):
            raise ValueError(
                f"--{name} {line.taken[name]}: AdamW and muon are there; the others of EasyNLP never step"
            )
        if kind == "muon":
            line.add("optimizer", kind, f"--{name}")
    if "use_amp" in line.taken:
        line.add("precision", "bf16", "--use_amp")
    if "user_defined_parameters" in line.taken:
        parameters = parse_parameters(line.taken["user_defined_parameters"])
        _parameters(line, caption_flags.own_parameters(parameters) if job == "caption" else parameters)
    flags = [token for key, value in line.added.items() for token in (f"--{key.replace('_', '-')}", value)]
    return [*line.kept, *flags]


def _split(argv: list[str], job: EasynlpJob) -> _Line:
    line, tokens = _Line(job=job), list(argv)
    while tokens:
        token = tokens.pop(0)
        name, sign, value = token.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if not token.startswith("--"):
            line.kept.append(token)
        elif name in REFUSED:
            raise ValueError(f"--{name}: has no counterpart here; {REFUSED[name]}")
        elif name in SWITCHES:
            if sign:
                raise ValueError(f"--{name}: takes no value")
            line.taken[name] = ""
        elif name in TAKEN or name in RENAMED:
            if not sign and (not tokens or tokens[0].startswith("--")):
                raise ValueError(f"--{name}: a value is missing")
            value = value if sign else tokens.pop(0)
            if not _equal(line.taken.setdefault(name, value), value):
                raise ValueError(f"--{name}: given twice, as {line.taken[name]} and {value}")
        else:
            line.kept.append(token)
            next_value = tokens[0] if tokens and not tokens[0].startswith("--") else ""
            line.given[name] = value if sign else next_value
    return line


def _check_mode(line: _Line) -> None:
    mode = line.taken.get("mode", MODE[line.job])
    if mode != MODE[line.job]:
        job = {"train": "jobs/train.py", "predict": "jobs/generate.py"}.get(mode, "another job")
        raise ValueError(f"--mode {mode}: this job is for --mode {MODE[line.job]}; run {job}")
    ours = caption_flags.APP if line.job == "caption" else APP
    app = line.taken.get("app_name", ours)
    if app != ours:
        other = {caption_flags.APP: caption_flags.ADVICE, APP: "; jobs/generate.py paints"}.get(app, "")
        raise ValueError(f"--app_name {app}: only {ours} is there{other}")
    if "mode" in line.taken and line.job == "generate" and "," in line.given.get("tables", ""):
        raise ValueError(
            "--tables: EasyNLP paints the last of several tables, this job all of them; name the one you "
            "mean, or leave out --mode"
        )


def _workers(line: _Line) -> None:
    """--worker_gpu a node and --worker_count nodes -> a number of workers."""
    gpus, nodes = (
        _number(f"--{n}", line.taken.get(n, d)) for n, d in (("worker_gpu", "-1"), ("worker_count", "1"))
    )
    if nodes < 1 or gpus < -1:
        raise ValueError(f"--worker_gpu {gpus} --worker_count {nodes}: expected 0 or more, and 1 or more")
    if gpus == 0:
        flag, value = ("use-gpu", "no") if line.job == "train" else ("gpus-per-actor", "0")
        line.add(flag, value, "--worker_gpu 0")
    if gpus > 0 or nodes > 1:
        flag = "num-workers" if line.job == "train" else "num-actors"
        line.add(flag, str(max(gpus, 1) * nodes), "--worker_gpu x --worker_count")


def parse_parameters(text: str) -> dict[str, str]:
    """`k=v k="a b" ...` as a dict; a value may hold '=', and spaces if it is quoted.

    Raises:
        ValueError: no '=', a quote that is not closed, or a key twice with different values.
    """
    found: dict[str, str] = {}
    try:
        entries = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"--user_defined_parameters: {error} in {text!r}") from None
    for entry in entries:
        key, sign, value = entry.partition("=")
        if not sign or not key:
            raise ValueError(f"--user_defined_parameters: {entry!r} is not key=value")
        if found.setdefault(key, value) != value:
            raise ValueError(f"--user_defined_parameters: {key} is {found[key]} and {value}")
    return found


def _parameters(line: _Line, parameters: dict[str, str]) -> None:
    flags = PARAMETER_FLAGS[line.job]
    pretrained = "pretrain_model_name_or_path" in parameters or "pretrained_model_name_or_path" in line.given
    expected = []
    for key, value in parameters.items():
        source = f"--user_defined_parameters {key}={value}"
        if key in REFUSED_PARAMETERS:
            raise ValueError(f"{source}: {REFUSED_PARAMETERS[key]}")
        if key in FIXED_PARAMETERS and line.job == "train":
            if value.lower() != FIXED_PARAMETERS[key]:
                raise ValueError(f"{source}: only {FIXED_PARAMETERS[key]} is there; {FIXED_ADVICE[key]}")
        elif key in flags:
            line.add(flags[key], value, source)
        elif key in GEOMETRY and (line.job != "precompute" or GEOMETRY[key] in OF_VQGAN):
            name, number = GEOMETRY[key], str(_number(source, value))
            if line.job == "train" and name in OF_NEW_GPT and not pretrained:
                line.add(name, number, source)
            else:
                expected.append(f"{name}={number}")
        else:
            known = sorted({*flags, *GEOMETRY})
            raise ValueError(f"{source}: means nothing to this job, which knows {', '.join(known)}")
    if expected:
        line.add("expect", ",".join(expected), "--user_defined_parameters")


def _number(source: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{source}: expected a whole number, got {text!r}") from None


def _equal(a: str, b: str) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b
