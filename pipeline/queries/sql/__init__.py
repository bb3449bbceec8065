"""SQL over a root, by DuckDB, which this folder alone imports: views over the run's own files, read as a query asks for them."""
