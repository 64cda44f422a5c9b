"""Floor 2: frame features, encoded once, stored, and dealt out in packed batches."""
