"""Where the seconds of a run go: counted inside the workers, and what holds a pass up."""
