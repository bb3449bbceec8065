"""The graph of nearest neighbours among one set of rows: who is near whom."""
