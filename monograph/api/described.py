"""What the methods and attributes of Tensor that are one line each say of themselves."""

from __future__ import annotations

from ..tensor import Tensor

DESCRIPTIONS = {
    "as_subclass": "This tensor: there are no subclasses.",
    "cpu": "This tensor: it is on the CPU.",
    "device": 'Where the elements are: the CPU, or "meta" where there are none.',
    "dim": "How many dimensions there are.",
    "dtype": "The type of the elements.",
    "element_size": "Bytes of one element.",
    "expand_as": "`expand` to the shape of another tensor. A view.",
    "get_device": "-1: the CPU has no number.",
    "grad_fn": "The operation that made this tensor, where gradients are followed; else None.",
    "is_distributed": "False.",
    "is_floating_point": "Whether the elements are floating-point numbers.",
    "is_inference": "Whether this tensor was made in inference mode.",
    "is_leaf": "Whether this tensor was made by no operation that gradients are followed through.",
    "is_nonzero": "Whether the single element is not zero.",
    "is_pinned": "False: memory is not pinned for devices.",
    "is_set_to": "Whether another tensor has the same memory, shape and strides.",
    "is_shared": "False: processes get copies.",
    "is_signed": "Whether the dtype has negative numbers.",
    "itemsize": "Bytes of one element.",
    "nbytes": "Bytes of all elements.",
    "ndim": "How many dimensions there are.",
    "ndimension": "How many dimensions there are.",
    "nelement": "How many elements there are.",
    "numel": "How many elements there are.",
    "output_nr": "Which of the outputs of `grad_fn` this tensor is.",
    "pin_memory": "This tensor: memory is not pinned for devices.",
    "requires_grad": "Whether gradients are followed to this tensor.",
    "reshape_as": "`reshape` to the shape of another tensor.",
    "retains_grad": "Whether this tensor, which is no leaf, keeps its gradient (`retain_grad`).",
    "shape": "The sizes of the dimensions.",
    "share_memory_": "This tensor: processes get copies.",
    "size": "The sizes of the dimensions, or of one.",
    "split_with_sizes": "Parts of the listed sizes along a dimension. Views.",
    "stride": "Elements between neighbours along the dimensions, or along one.",
    "to_dense": "This tensor: it is dense.",
    "type_as": "This tensor in the dtype of another.",
    "view_as": "`view` with the shape of another tensor.",
}


def describe() -> None:
    """Give each its text, once all of them are there."""
    for name, text in DESCRIPTIONS.items():
        what = vars(Tensor)[name]
        if not what.__doc__:
            what.__doc__ = text
