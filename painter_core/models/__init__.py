"""The two networks: a VQGAN that turns pictures into codes and back, a GPT that writes codes from text."""
