"""In what precision networks compute float32 products, which is a setting of the whole process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from painter_core.compute.devices import set_tf32


@contextmanager
def products_after(precision: str) -> Iterator[set[str]]:
    """What torch allows (`high` is tf32, `highest` float32) whenever a module is called within, after
    somebody else has set this precision."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    found: set[str] = set()

    def look(*of_call: object) -> None:
        allowed = torch.get_float32_matmul_precision()
        assert torch.backends.cudnn.allow_tf32 == (allowed == "high"), "products and convolutions differ"
        found.add(allowed)

    hook = register_module_forward_pre_hook(look)
    set_tf32(precision)
    try:
        yield found
    finally:
        hook.remove()
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions
