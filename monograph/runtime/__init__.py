"""Machine code in this process: loading, caching, threads, memory, and programs of kernels."""
