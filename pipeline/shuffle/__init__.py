"""Work by key over a run of any size: rows travel by files to whoever has all the rows of a key, and answers travel back.

Why no engine does it (10 million keys of 128 bits with 2 % repeats, one thread): sorting them in numpy takes 3.0 s of a CPU and
26 bytes a row beside the keys; pyarrow's group_by 6.0 s and 100; DuckDB 2.0 3.0-4.4 s and 37-56, whatever its memory_limit (which
bounds its buffers, not the process), in one process, and it cannot go on from what a killed run had done. Ray Data's shuffle is
that of a cluster's object store, which a run in this process has none of, and which forgets with the cluster.
"""
