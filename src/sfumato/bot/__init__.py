"""A bot for chats: commands become jobs of a running server, the same for every service; a thin adapter each."""
