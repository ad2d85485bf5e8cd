"""Trainings that a server starts: `sfumato train` as a process of its own, one at a time."""
