"""A loaded model, and one request on its way to a picture."""
