"""Layers for several devices or processes, in the one that there is."""

from monograph.core.errors import ArgumentError

from .module import Module
from .norm import _BatchNorm

__all__ = ["DataParallel", "DistributedDataParallel", "SyncBatchNorm"]


class DataParallel(Module):
    """`module` as it is: without GPUs PyTorch's runs it directly, too."""

    def __init__(self, module, device_ids=None, output_device=None, dim=0):
        super().__init__()
        if device_ids:
            raise ArgumentError(f"DataParallel: there are no devices {list(device_ids)}")
        self.module = module

    def forward(self, *inputs, **kwargs):
        return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """A name to ask for with isinstance; ArgumentError if it is made: there is one process."""

    def __init__(self, module, *args, **kwargs):
        raise ArgumentError(
            "DistributedDataParallel: there is one process",
            hint="ask distributed.is_available() first, and train the module as it is",
        )


class SyncBatchNorm(_BatchNorm):
    """Batch norm of inputs (N, C, ...); there is one process to take moments in."""

    ndims = (2, 3, 4, 5)

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        process_group=None,
        device=None,
        dtype=None,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        """`module` with its batch norms replaced; parameters and buffers are the same objects."""
        made = module
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            made = cls(
                module.num_features, module.eps, module.momentum, module.affine,
                module.track_running_stats,
            )  # fmt: skip
            for name in (*made._parameters, *made._buffers):
                setattr(made, name, getattr(module, name))
            made.train(module.training)
        for name, child in module.named_children():
            setattr(made, name, cls.convert_sync_batchnorm(child, process_group))
        return made
