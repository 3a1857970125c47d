"""Flags that the training jobs share, and which flags a run must keep when it is resumed."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from painter_core.flag_checks import check_range, check_seed

BOUND = {"bound": True}
"""Metadata of a flag that changes the weights: a run that is resumed must have the same value."""

BOUND_IF_SET = {"bound": True, "if_set": True}
"""The same of a flag that came later: runs without it are what they were before it was there."""


def bound_settings(config: Any) -> dict[str, Any]:
    """The bound flags of a config and of the configs nested in it, by name."""
    found: dict[str, Any] = {}
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            found |= bound_settings(value)
        elif each.metadata.get("bound") and not (each.metadata.get("if_set") and value == each.default):
            found[each.name] = value
    return found


@dataclass(frozen=True, kw_only=True)
class TrainingRunFlags:
    """How a training runs, whatever is trained."""

    logging_steps: int = 100
    """Steps between lines of metrics."""
    save_checkpoint_steps: int = 1000
    """Steps between checkpoints, each with a validation."""
    keep_checkpoints: int = 3
    """Checkpoints kept."""
    random_seed: int = field(default=42, metadata=BOUND)
    """Seed of the weights, the data order and everything else that is drawn."""
    num_workers: str = "1"
    """Training workers: N; or MIN,MAX, of which those take part that the cluster has room for: when a node is
    lost the run goes on with fewer from the last checkpoint, and with more when nodes join."""
    resize_interval: int | None = None
    """Seconds between two looks for room for more workers, with --num-workers MIN,MAX; 60 by default. More
    workers begin at the last checkpoint: what was done since is done again."""
    use_gpu: Literal["auto", "yes", "no"] = "auto"
    """One GPU a worker; auto: if the cluster has any."""
    wait_for_gpus: float = 0.0
    """Seconds in which a cluster that starts its nodes on demand may get the GPUs of --num-workers."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of the model; auto: on a GPU."""
    overwrite: bool = False
    """Replace a run with other settings in the output; it stays until the new one is complete."""
    dry_run: bool = False
    """Check inputs, models and settings, do one step in this process, write nothing."""

    def __post_init__(self) -> None:
        check_range("--logging-steps", self.logging_steps, 1, 10**9)
        check_range("--save-checkpoint-steps", self.save_checkpoint_steps, 1, 10**9)
        check_range("--keep-checkpoints", self.keep_checkpoints, 1, 10**6)
        check_range("--resize-interval", self.resize_interval, 1, 86400)
        if self.resize_interval is not None and "," not in self.num_workers:
            raise ValueError(
                f"--resize-interval {self.resize_interval}: means nothing beside --num-workers "
                f"{self.num_workers}; give --num-workers MIN,MAX, or leave it out"
            )
        check_range("--wait-for-gpus", self.wait_for_gpus, 0, 7 * 86400)
        check_seed(self.random_seed)
