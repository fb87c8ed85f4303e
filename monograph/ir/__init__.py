"""Layer 1: operations, the door they all pass, and the graph they are recorded in."""
