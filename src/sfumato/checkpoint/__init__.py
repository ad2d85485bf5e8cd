"""From bytes to tensors: files and folders of weights, opened strictly and safely, and the names in them."""
