"""Kernel generators: contraction, convolution, attention, pooling, gathering. See steps.py."""

from . import attention as _attention  # noqa: F401
from . import attention_grad as _attention_grad  # noqa: F401
from . import conv as _conv  # noqa: F401
from . import copy as _copy  # noqa: F401
from . import depthwise as _depthwise  # noqa: F401
from . import depthwise_weight as _depthwise_weight  # noqa: F401
from . import gather as _gather  # noqa: F401
from . import gemm as _gemm  # noqa: F401
from . import pooling as _pooling  # noqa: F401
from . import position as _position  # noqa: F401
from . import scan as _scan  # noqa: F401
from . import scatter as _scatter  # noqa: F401
from . import search as _search  # noqa: F401
from . import sort as _sort  # noqa: F401
from . import topk as _topk  # noqa: F401
