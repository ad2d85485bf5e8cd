"""The machine that we run on: devices and threads."""
