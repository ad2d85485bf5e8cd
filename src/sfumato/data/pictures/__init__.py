"""A user's own pictures with captions: readers of every common layout, aspect-ratio buckets, captions, batches."""
