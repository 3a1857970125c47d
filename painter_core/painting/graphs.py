"""CUDA graphs of the sampling's steps: how they are captured, and whether a worker uses them.

`on`: a failure is an error. `auto`: they are tried once, on captions made of padding, before any work; if
that fails, or a step computes something else than the plain one, all sampling is plain, and the reason is
told. Never is one exchanged for the other in the middle of the work.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

Graphs = Literal["auto", "on", "off"]
WARM_UP = 3  # runs before a capture, in which libraries allocate what they need
FARTHEST = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}
"""Share of the largest logit by which a step may differ: about twice what its precision rounds."""


class Streams:
    """Where a GPU samples and where it decodes, beside each other.

    Sampling goes first: its many small kernels would queue behind a decoder's, which fill the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.sampling = torch.cuda.Stream(device, priority=-1)
        self.decoding = torch.cuda.Stream(device)

    @contextmanager
    def for_sampling(self) -> Iterator[None]:
        """What is launched within follows what was launched before, and comes before what follows."""
        outside = torch.cuda.current_stream(self.sampling.device)
        self.sampling.wait_stream(outside)
        with torch.cuda.stream(self.sampling):
            yield
        outside.wait_stream(self.sampling)


class Capturer:
    """Captures steps on one stream into one pool of memory.

    One pool is enough: what a step leaves is in tensors from before the capture, and graphs are played one
    after the other. Kernels of a graph have the priority of the stream on which they were captured.
    """

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self.stream = stream
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Callable[[], object], before: Callable[[], object]) -> Callable[[], None]:
        """The replay of a step.

        Args:
            step: reads and writes tensors that stay where they are.
            before: what is to be done before each run of it.
        """
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                before()
                step()
            before()
        graph = torch.cuda.CUDAGraph()
        # other threads decode, and their allocations would end a capture that watches all of them
        with torch.cuda.graph(graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"):
            step()
        torch.cuda.current_stream().wait_stream(self.stream)
        return graph.replay


@dataclass(frozen=True, kw_only=True)
class GraphsUsed:
    """What came of --graphs on a worker."""

    used: bool
    reason: str = ""
    """Why not, if they were wanted."""

    def to_json(self) -> dict[str, Any]:
        """As a commit record and the manifest have it."""
        return {"graphs": self.used, **({"reason": self.reason} if self.reason else {})}


def try_graphs(wanted: Graphs, attempt: Callable[[], float], precision: str) -> GraphsUsed:
    """Whether the graphs of a worker are used.

    Args:
        attempt: captures them, and returns the distance of a step from the plain one.
        precision: of the products.

    Raises:
        RuntimeError: `on`, and they cannot be.
    """
    if wanted == "off":
        return GraphsUsed(used=False)
    try:
        off = attempt()
        reason = ""
        if off > FARTHEST[precision]:
            reason = f"a step's logits differ by {off:.2g} of the largest from the plain step's"
    except RuntimeError as error:  # torch's own, of CUDA and of a compilation too
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if reason and wanted == "on":
        raise RuntimeError(f"--graphs on: {reason}; --graphs off works without, or run make gpu-check")
    return GraphsUsed(used=not reason, reason=reason)
