"""A clustering on Ray: the processes that hold rows and centres."""
