"""The mathematics of diffusion: noise schedules, predictions, guidance and samplers, without networks or files."""
