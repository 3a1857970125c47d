"""The two networks: a VQGAN that turns pictures into codes and back, and a GPT that writes codes from text."""
