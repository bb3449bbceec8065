"""Where recipes are written: in the package, in a file, at a URL, one on top of another; and what editors know of them."""
