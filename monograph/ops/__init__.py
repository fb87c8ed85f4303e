"""Layer 2: the operations, by family, and the functions composed of them.

basic, movement     cast, where; sum and expand, reshape, permute, slice, pad, flip
align               promotion and broadcasting before the door
arith               arithmetic, comparison, logic
contract            products summed over shared axes: matmul, einsum, linear
"""
