"""What a model can be asked for, one file for each task: its request, its first latents and its conditioning."""
