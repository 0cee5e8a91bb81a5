"""Access to the machine: hardware features, compiled kernels, collective operations."""
