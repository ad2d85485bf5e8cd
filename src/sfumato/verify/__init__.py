"""Checks of this installation against the original implementations: samplers, schedules, text, tiny networks."""
