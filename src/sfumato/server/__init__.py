"""The server: requests over HTTP become jobs that survive a crash, drawn by a worker process a device."""
