"""Lists of uids that rules read from files."""
