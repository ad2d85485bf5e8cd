"""Jobs: what was asked, in which state it is, and the database that keeps both."""
