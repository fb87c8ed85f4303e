"""Layer 3: what is done to programs: reverse mode, capture as a graph, batching, recomputation."""
