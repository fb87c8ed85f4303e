"""Layer 5: the eager interpreter and the functions that make and index tensors."""
