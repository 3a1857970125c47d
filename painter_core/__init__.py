"""painter: Chinese text-to-image (VQGAN + GPT) as a batch data pipeline on Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from painter_core.painting.pipeline import pipeline

__version__ = "0.1.0"
__all__ = ["__version__", "pipeline"]


def __getattr__(name: str) -> Any:
    # on demand: importing the package must not load torch
    if name == "pipeline":
        from painter_core.painting.pipeline import pipeline

        return pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
