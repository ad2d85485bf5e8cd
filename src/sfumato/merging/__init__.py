"""One model out of several: formulas, weights of blocks, inputs that fit together, and the file that is written."""
