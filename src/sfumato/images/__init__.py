"""Picture files in and out, masks, crops, resizing and video."""
