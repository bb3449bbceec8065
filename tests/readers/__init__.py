"""One export that was fed everything, read by readers that nobody here wrote: `make readers`."""
