"""Discrete Fourier transforms with the names and meanings of torch.fft.

>>> x = tensor([1.0, 2.0, 0.0, -1.0])
>>> irfft(rfft(x), 4)
tensor([ 1.,  2.,  0., -1.])
"""

from .ops.arguments import OTHER_NAMES as _OTHER_NAMES
from .ops.arguments import explained as _explained
from .ops.fourier import (
    fft,
    fft2,
    fftfreq,
    fftn,
    fftshift,
    hfft,
    hfft2,
    hfftn,
    ifft,
    ifft2,
    ifftn,
    ifftshift,
    ihfft,
    ihfft2,
    ihfftn,
    irfft,
    irfft2,
    irfftn,
    rfft,
    rfft2,
    rfftfreq,
    rfftn,
)

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2",
    "ifftn", "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft",
    "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip

for _name in __all__:  # they take out=, axis= and axes= as well
    _OTHER_NAMES[_name] = {"axes": "dim"} if _name[-1] in "nt2" else {}
    globals()[_name] = _explained(globals()[_name], always=True)
