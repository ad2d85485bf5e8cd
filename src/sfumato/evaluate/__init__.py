"""How well a model draws: figures with intervals, over any data set."""
