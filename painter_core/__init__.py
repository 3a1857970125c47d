"""painter: Chinese text-to-image (VQGAN + GPT) as a batch data pipeline on Ray."""

__version__ = "0.1.0"
