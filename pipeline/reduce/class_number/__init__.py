"""How many classes there should be."""
