"""Entries of PyTorch's operator database that are not attempted, or compared in part, and why."""

_INTERNAL = "internal to PyTorch: no public function of this name"
_SPARSE = "takes or returns sparse tensors"
_CUDA = "compiles code for CUDA"

# Not attempted. These do not count as entries that deal in dense tensors.
EXCLUDED = {
    "sparse.sampled_addmm": _SPARSE,
    "sparse.mm|reduce": _SPARSE,
    "jiterator_unary": _CUDA,
    "jiterator_binary": _CUDA,
    "jiterator_4inputs_with_extra_args": _CUDA,
    "jiterator_binary_return_by_ref": _CUDA,
    "jiterator_2inputs_2outputs": _CUDA,
    "bmm|triton_optimized": "runs on CUDA only",
    "_softmax_backward_data": _INTERNAL,
    "_native_batch_norm_legit": _INTERNAL,
    "_batch_norm_with_update": _INTERNAL,
    "_upsample_bilinear2d_aa": _INTERNAL,
    "_unsafe_masked_index": _INTERNAL,
    "_unsafe_masked_index_put_accumulate": _INTERNAL,
    "_chunk_cat": _INTERNAL,
    "max_pool2d_with_indices_backward": _INTERNAL,
    "native_dropout_backward": _INTERNAL,
    "torch._scaled_mm_v2": _INTERNAL,
    "torch._scaled_mm": _INTERNAL,
    "torch.ops.aten._safe_softmax.default": _INTERNAL,
    "torch.ops.aten._flash_attention_forward": _INTERNAL,
    "torch.ops.aten._efficient_attention_forward": _INTERNAL,
    "slice": _INTERNAL,
    "chalf": "there is no complex32: NumPy, which computes with complex numbers, has none",
    "hash_tensor": "an unspecified checksum of PyTorch's own",
}

# Attempted; only shapes and dtypes of the results are compared.
UNSPECIFIED = {
    "cauchy": "random",
    "exponential": "random",
    "geometric": "random",
    "log_normal": "random",
    "normal": "random",
    "normal|in_place": "random",
    "normal|number_mean": "random",
    "uniform": "random",
    "multinomial": "random",
    "bernoulli": "random",
    "randn": "random",
    "randn_like": "random",
    "rand_like": "random",
    "randint": "random",
    "randint_like": "random",
    "nn.functional.dropout": "random",
    "nn.functional.dropout2d": "random",
    "nn.functional.dropout3d": "random",
    "nn.functional.alpha_dropout": "random",
    "nn.functional.feature_alpha_dropout|with_train": "random",
    "nn.functional.rrelu": "random",
    "nn.functional.fractional_max_pool2d": "random",
    "nn.functional.fractional_max_pool3d": "random",
    "nn.functional.multi_head_attention_forward": "random",
    "svd_lowrank": "random",
    "pca_lowrank": "random",
    "empty": "uninitialised",
    "empty_like": "uninitialised",
    "empty_permuted": "uninitialised",
    "empty_strided": "uninitialised",
    "new_empty": "uninitialised",
    "new_empty_strided": "uninitialised",
}

# Attempted, but not in these dtypes.
_SHORT = ("uint8", "int8", "int16", "int32")  # run.py --dtype
_WHOLE = ((*_SHORT, "int64"), "integers scaled by fractions are an error here")
_UNSIGNED = (("uint8",), "differences of unsigned numbers wrap around there")
_BYTES = (("uint8",), "PyTorch rounds the weights to 16 bits, and after each dimension")
_POLES = (("int8", "int16"), "at poles PyTorch gives what rounding leaves")
DTYPES_LEFT_OUT = {
    "addbmm": _WHOLE,
    "addmv": _WHOLE,
    "baddbmm": _WHOLE,
    "einsum": (_SHORT, "PyTorch's dtype depends on the order in which it sums"),
    "nn.functional.margin_ranking_loss": _UNSIGNED,
    "nn.functional.triplet_margin_loss": _UNSIGNED,
    "nn.functional.triplet_margin_with_distance_loss": _UNSIGNED,
    "nn.functional.pairwise_distance": _UNSIGNED,
    "nn.functional.interpolate|bilinear": _BYTES,
    "nn.functional.interpolate|bicubic": _BYTES,
    "nn.functional.upsample_bilinear": _BYTES,
    **{f"polygamma|polygamma_n_{n}": _POLES for n in range(5)},
    "special.polygamma|special_polygamma_n_0": _POLES,
    "logsumexp": (("complex64",), "PyTorch's own gradient has two digits where elements are large"),
    "renorm": (("complex64", "complex128"), "PyTorch's own gradient is nan for p = inf"),
    "nn.functional.local_response_norm": (("int64",), "integers become floating here"),
}

# Attempted, but not with the samples of which the test is true.
SAMPLES_LEFT_OUT = {
    "nn.functional.gaussian_nll_loss": (
        lambda sample: sample.args[0].shape != sample.input.shape,
        "shapes that broadcast silently are an error here",
    ),
}

# Attempted; gradients are not compared.
GRADIENTS_DIFFER = {
    "as_strided_scatter": "PyTorch gives the gradient of what is overwritten to input",
    "nn.functional.ctc_loss": "the gradient is for log_probs here (docs/differences.md)",
    "cholesky_inverse": "the triangle that is not read has a gradient there",
    "cholesky_solve": "the triangle that is not read has a gradient there",
    "nn.functional.max_unpool1d": "only the last value at a place has a gradient here",
    "nn.functional.max_unpool2d": "only the last value at a place has a gradient here",
    "nn.functional.max_unpool3d": "only the last value at a place has a gradient here",
}

# (rtol, atol) of floating values where the usual ones are too tight, and why.
_SIX = (1e-5, 1e-5, "PyTorch's own values have about six digits")
LOOSER = {
    "special.bessel_j0": _SIX,
    "special.bessel_j1": _SIX,
    "special.bessel_y0": _SIX,
    "special.bessel_y1": _SIX,
    "nn.functional.layer_norm": (1e-4, 1e-3, "a gradient of 0, and rounding / sqrt(eps) there"),
    "native_layer_norm": (1e-4, 1e-3, "a gradient of 0, and rounding / sqrt(eps) there"),
    "matrix_exp": (1e-3, 1e-3, "large numbers in float32; ours are computed in float64"),
}

# derived.py: not differentiated twice.
NOT_SMOOTH = {
    "grid_sampler_3d": "so many samples that a difference crosses the border of a cell",
    "linalg.norm|subgradients_at_zero": "has no derivative at 0",
    "nn.functional.cosine_embedding_loss": "a target that is moved is neither 1 nor -1",
}

# derived.py: not batched.
_DATA = "the shape of the result depends on the elements"
_VALUES = "reads elements as Python numbers"
NO_BATCH = {
    **dict.fromkeys(("argwhere", "bincount", "masked_select", "nonzero", "unique"), _DATA),
    "unique_consecutive": _DATA,
    "to_sparse": _DATA,
    **dict.fromkeys(("allclose", "item"), _VALUES),
    **dict.fromkeys(("linspace|tensor_overload", "logspace|tensor_overload"), _VALUES),
    "histc": "NumPy counts",
    "masked_scatter": "where an element goes depends on those before it",
    "_segment_reduce|offsets": "the other offsets that this makes do not ascend",
    "nonzero_static": "NumPy finds the places",
}
