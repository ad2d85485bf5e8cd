"""One file a layout of pictures with captions; `find.entries` chooses the reader."""
