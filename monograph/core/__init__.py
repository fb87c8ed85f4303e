"""Layer 0: facts that every other layer shares. Nothing here knows about tensors or graphs."""
