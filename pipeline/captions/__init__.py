"""What a caption's own text says about its worth: pure functions on strings, bounded in time."""
