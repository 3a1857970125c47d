"""A model whose weights are still to come: their names and shapes, and no values."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

Model = TypeVar("Model")


class _NoFirstValues(TorchFunctionMode):
    """Leaves out the first values of new weights: none are kept, and drawing them takes most of the time."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def unfilled(make: Callable[..., Model], *args: Any) -> Model:
    """`make(*args)` on the meta device, where weights take neither memory nor time."""
    with torch.device("meta"), _NoFirstValues():
        return make(*args)
