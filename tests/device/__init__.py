"""What only a machine with a GPU can show: `make device` (at most 8 minutes; needs nothing from outside but the packages)."""
