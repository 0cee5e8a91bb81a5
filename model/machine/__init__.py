"""What the machine offers: hardware, compiled kernels, several processes as one."""
