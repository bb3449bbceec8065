"""Files: store.py owns fsspec, shards.py owns tar and webdataset."""
