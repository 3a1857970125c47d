"""How a model runs on a machine: device, precision, memory."""
