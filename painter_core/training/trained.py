"""The GPT of a run: what is trained, what is validated and saved, and what a checkpoint must hold of both.

A checkpoint's model directory is what is painted with: averaged with --ema-decay, merged with --lora-rank.
Where that is not what is trained, the trained weights stand in training/state.pt, and adapters in
adapter.safetensors.
"""

from pathlib import Path
from typing import Any

from painter_core.model_files.adapter import FILE, load_adapter, write_adapter
from painter_core.model_files.open import open_model
from painter_core.models.gpt import GPT
from painter_core.models.low_rank import adapter_state, has_adapters, merged
from painter_core.training.fine_tuning import choose_trained
from painter_core.training.gpt_config import TrainConfig
from painter_core.training.sharding import gathered, shard
from painter_core.training.weight_average import WeightAverage
from painter_core.training.worker import Worker


class Trained:
    """A GPT with the settings of a run.

    Args:
        gpt: as it is at the start.
        config: of the run.
        worker: that trains it.
    """

    def __init__(self, gpt: GPT, config: TrainConfig, worker: Worker) -> None:
        self.gpt, self._config, self._worker = gpt, config, worker
        gpt.activation_checkpointing = config.activation_checkpointing
        gpt.dropout = config.regularisation.dropout
        choose_trained(gpt, config.fine_tuning, config.run.random_seed)
        self._has_adapters = has_adapters(gpt)
        decay = config.regularisation.ema_decay
        self.average = WeightAverage(gpt, decay) if decay else None
        self.is_sharded = config.parallel == "fsdp" and worker.world_size > 1

    @property
    def saved(self) -> GPT:
        """The GPT that is validated and saved."""
        return self.average.gpt if self.average else self.gpt

    def load(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Takes up the weights of a checkpoint, before they are spread."""
        if self._has_adapters:
            load_adapter(self.saved, checkpoint / FILE)
        else:
            self.saved.load_state_dict(open_model(str(checkpoint)).load_gpt().state_dict())
        if self.average:
            self.gpt.load_state_dict(self.gpt.state_dict() | state["weights"])

    def spread(self) -> None:
        """Brings the weights to the worker's device, or its share of them."""
        for gpt in (self.gpt, self.average.gpt) if self.average else (self.gpt,):
            if self.is_sharded:
                shard(gpt, self._worker)
            else:
                gpt.to(self._worker.device)

    def follow(self, step: int) -> None:
        """After the update that `step` counts, from 1."""
        if self.average:
            self.average.follow(self.gpt, step)

    def whole(self) -> GPT:
        """The GPT that is saved with whole weights, on rank 0; all workers call it together."""
        return merged(gathered(self.saved, self._worker) if self.is_sharded else self.saved)

    def state(self) -> dict[str, Any]:
        """What training/state.pt holds besides; all workers call it together."""
        if not self.average:
            return {}
        gpt = gathered(self.gpt, self._worker) if self.is_sharded else self.gpt
        return {"weights": adapter_state(gpt) if self._has_adapters else gpt.state_dict()}

    def write_adapter(self, directory: Path, base_sha256: str) -> None:
        """Writes the adapters, if there are some, into a model directory."""
        rank = self._config.fine_tuning.lora_rank
        if rank is not None:
            write_adapter(directory, adapter_state(self.saved), rank=rank, base_sha256=base_sha256)
