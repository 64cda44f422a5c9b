"""The neural parts in plain torch, on packed frames: mixing, bottleneck, pooling, CTC, beta schedules."""
