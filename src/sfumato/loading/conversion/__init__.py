"""The steps of a conversion: an account of every tensor, the writing of a draft, the proof that it is the input."""
