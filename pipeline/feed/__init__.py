"""Exported shards as training batches: in which order (`order.py`), who gets which part (`shares.py`), their bytes (`tars.py`),
and PyTorch's dataset over them (`dataset.py`, `loader.py`)."""
