"""Products and sums of matrices, on the CPU and on a device, for who searches and clusters."""
