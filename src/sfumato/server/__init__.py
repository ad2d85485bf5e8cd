"""The server: requests over HTTP become jobs that survive a crash, drawn by one worker process for each device."""
