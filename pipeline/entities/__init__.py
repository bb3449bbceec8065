"""Entities: a knowledge base, its aliases in captions, and which sense an image confirms (MOFI, science of entity labels)."""
