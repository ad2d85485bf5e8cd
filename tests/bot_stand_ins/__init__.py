"""Stand-ins of the server and of chat services, for the tests of the bot."""
