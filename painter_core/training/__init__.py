"""Steps, optimizers, data order and checkpoints of training. Knows no Ray and no table."""
