"""python -m benchmarks.gpu_check: whether the GPU path is right on this machine, gate by gate."""
