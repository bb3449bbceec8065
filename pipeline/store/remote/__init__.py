"""Tables of an object store by as few requests and bytes as they take."""
