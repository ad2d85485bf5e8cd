"""The data set of the embedded model: how it is built, captioned, composed into scenes and handed to training."""
