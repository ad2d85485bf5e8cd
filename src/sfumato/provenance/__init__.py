"""What a picture tells of its origin: watermark, settings written and read, and other programs' metadata."""
