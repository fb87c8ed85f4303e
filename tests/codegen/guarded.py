"""Run by test_memory.py in a process of its own: arrays that end (or begin) at forbidden pages."""

import ctypes
import mmap

import numpy as np
from random_kernels import ZERO, number, random_values
from test_differential import TARGETS

from monograph.kernel.evaluate import NUMPY_DTYPES
from monograph.kernel.ir import Buffer, Call, Kernel, Load, Loop, Reduce, Store, Var
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import launch

PAGE = mmap.PAGESIZE
i, n = Var("i"), Var("n")


class Guarded:
    """Four pages between two that may not be touched."""

    def __init__(self):
        self.memory = mmap.mmap(-1, 6 * PAGE)
        self.bytes = np.frombuffer(self.memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, 5):
            place = ctypes.c_void_p(self.bytes.ctypes.data + page * PAGE)
            assert libc.mprotect(place, ctypes.c_size_t(PAGE), 0) == 0

    def array(self, values, at_end):
        size = values.nbytes
        start = 5 * PAGE - size if at_end else PAGE
        view = self.bytes[start : start + size].view(values.dtype)
        view[:] = values
        return view


def kernels(dtype, extent):
    stop = n if extent is None else number(extent)
    pair = (Buffer("x", dtype), Buffer("y", dtype, True))

    def vector(*body):
        return (Loop("i", ZERO, stop, body, "vector"),)

    bodies = [vector(Store("y", i, Load("x", i, dtype)))]
    if extent is None:
        for step in (2, 3, -1, -2):
            at = i * step if step > 0 else (n - 1 - i) * -step
            bodies.append(vector(Store("y", i, Load("x", at, dtype))))
            bodies.append(vector(Store("y", at, Load("x", i, dtype))))
        odd = Call("eq", (i % 2, number(1)), "bool")
        past = Loop("i", ZERO, n + 100, (
            Store("y", i - 50, Load("x", i - 50, dtype, Call("and", (i >= 50, i < n + 50), "bool")),
                  Call("and", (i >= 50, i < n + 50), "bool")),
        ), "vector")  # fmt: skip
        bodies += [(past,), vector(Store("y", i, Load("x", i, dtype, odd), odd))]
    if dtype not in ("bool", "f16"):
        bodies.append(vector(Reduce("max", "y", ZERO, Load("x", i, dtype))))
    return [Kernel("guarded", pair, body, ("n",)) for body in bodies]


def main():
    one, other = Guarded(), Guarded()
    rng = np.random.default_rng(0)
    for target in TARGETS.values():
        for dtype in ("f32", "u8", "f16", "bool", "f64"):
            for constant in (None, 7, 33, 100):
                for kernel in kernels(dtype, constant):
                    (handle,) = compile_kernels([kernel], target)
                    for extent in (1, 13, 16, 47, 100) if constant is None else (constant,):
                        text = repr(kernel.body)
                        step = 3 if "value=3," in text else 2 if "value=2," in text else 1
                        count = (extent - 1) * step + 1
                        values = random_values(rng, dtype, count)
                        for at_end in (False, True):
                            x = one.array(values, at_end)
                            y = other.array(np.zeros(count, NUMPY_DTYPES[dtype]), at_end)
                            launch(handle, [x, y], [extent])


main()
