"""Questions about a root or a plan; nothing is changed by asking."""
