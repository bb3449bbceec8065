"""Where work runs: `shards.py` on Ray actors (the only ray), `local.py` in this process."""
