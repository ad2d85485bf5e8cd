"""Training: one loop and one objective for all methods, recipes, checkpoints, reports, and the methods themselves."""
