"""`monograph.nn.functional`: the stateless functions of layers and losses, from ops/."""

from ..ops.align import FUNCTIONAL as _FUNCTIONAL

globals().update(_FUNCTIONAL)
