"""From tensors to networks: what a checkpoint is, its parts, loading, saving, converting, describing it."""
