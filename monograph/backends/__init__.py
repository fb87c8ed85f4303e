"""Switches of other libraries' kernels that programs set: kept, and without effect on the CPU."""

from . import cuda as cuda
from . import cudnn as cudnn
from . import mps as mps
