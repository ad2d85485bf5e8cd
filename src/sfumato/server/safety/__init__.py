"""What keeps a server safe from its clients: who may ask, what they may name, and how much."""
