"""What the explorer page needs beside the typed API: its own files, and the map of a run."""
