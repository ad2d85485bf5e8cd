"""Every option once: its type, range, help and name in a picture's settings."""
