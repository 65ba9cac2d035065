"""The GPU core: device, models, training, splits, weights."""
