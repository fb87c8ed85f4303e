"""Types of arguments that are one number or one for each axis, for annotations of programs."""

# mypy: ignore-errors
for _n in range(1, 7):
    globals()[f"_size_{_n}_t"] = int | tuple[(int,) * _n]
    globals()[f"_ratio_{_n}_t"] = float | tuple[(float,) * _n]
_scalar_or_tuple_any_t = int | tuple[int, ...]
_size_any_t = int | tuple[int, ...]
_ratio_any_t = float | tuple[float, ...]
_maybe_indices_t = tuple
