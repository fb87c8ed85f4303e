"""Layer 4: from a graph to one native program. pipeline.py is the table of contents."""
