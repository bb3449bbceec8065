"""Files and tables of one root, local or remote: the only owner of fsspec."""
