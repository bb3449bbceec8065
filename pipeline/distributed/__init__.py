"""Where work runs: `ray_executor.py` on Ray actors (Ray is imported in this room only), `local.py` in this process."""
