"""Picture files in and out, masks, crops, resizing, contact sheets, charts and video."""
