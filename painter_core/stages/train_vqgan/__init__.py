"""pictures -> VQGAN: jobs/train_vqgan.py."""
