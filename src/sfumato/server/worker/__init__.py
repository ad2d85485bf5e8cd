"""The process that draws: it loads models, merges the steps of all jobs, and writes finished pictures."""
