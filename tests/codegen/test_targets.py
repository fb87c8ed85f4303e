"""Code for other processors, and the quality of the code for this one."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from random_kernels import ALL, ZERO, elementwise_kernel, number

from monograph.codegen import target as targets
from monograph.codegen.llvm import module_ir
from monograph.codegen.objects import compile_ir
from monograph.kernel.ir import Buffer, Const, Kernel, Load, Local, Loop, Reduce, Store, Var
from monograph.runtime.machine_code import kernel_assembly, kernel_text

EMIT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from random_kernels import ALL, elementwise_kernel
from test_targets import register_tile
from monograph.codegen import target as targets
from monograph.codegen.llvm import module_ir
from monograph.codegen.objects import compile_ir
target = getattr(targets, sys.argv[2])()
rng = np.random.default_rng(5)
kernels = [elementwise_kernel(rng, dtype) for dtype in ALL] + [register_tile(4, 8)]
for kernel in kernels:
    body = compile_ir(module_ir([kernel], target), target)
    assert body[:4] == b"\\x7fELF", body[:4]
    machine = int.from_bytes(body[18:20], "little")
    assert machine == {"aarch64": 183}.get(sys.argv[2], 62), machine
"""


def register_tile(rows, columns):
    """C = A @ B for packed panels, through a tile that must stay in registers."""
    m, v, k = Var("m"), Var("v"), Var("k")
    place = m * columns + v

    def tile(stmt):
        inner = Loop("v", ZERO, number(columns), (stmt,), "vector")
        return Loop("m", ZERO, number(rows), (inner,), "unroll")

    product = Load("a", k * rows + m, "f32") * Load("b", k * columns + v, "f32")
    body = (
        Local("acc", "f32", rows * columns),
        tile(Store("acc", place, Const(0.0, "f32"))),
        Loop("k", ZERO, Var("depth"), (tile(Reduce("add", "acc", place, product)),)),
        tile(Store("c", place, Load("acc", place, "f32"))),
    )
    buffers = (Buffer("a", "f32"), Buffer("b", "f32"), Buffer("c", "f32", True))
    return Kernel("tile", buffers, body, ("depth",))


@pytest.mark.parametrize("target", ["aarch64", "x86_64_baseline", "avx2", "avx512"])
def test_objects_for_every_target(target):
    """In another process: an unknown construct would end it, not raise."""
    here = __file__.rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", EMIT, here, target], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("target", "rows", "columns"),
    [("avx512", 8, 48), ("avx512", 14, 32), ("avx2", 6, 16), ("aarch64", 8, 12)],
)
def test_a_register_tile_stays_in_registers(target, rows, columns):
    """The inner loop is loads, broadcasts and multiply-adds; nothing is spilled or stored."""
    target = getattr(targets, target)()
    assembly = kernel_assembly(register_tile(rows, columns), target)
    blocks = re.split(r"^\.?[A-Za-z_0-9.]+:.*\n", assembly, flags=re.M)
    fma = re.compile(r"\b(vfmadd\w+|fmla)\b")
    inner = max(blocks, key=lambda block: len(fma.findall(block)))
    assert len(fma.findall(inner)) == rows * columns * 4 // target.vector_bytes
    assert not re.search(r"\bmov[au]ps\s+%[xyz]mm\d+, .*\(", inner)
    assert not re.search(r"\(%rsp\)|\[sp", inner)
    loads = len(re.findall(r"\b(vmovups|vbroadcastss|ldr|ldp|ld1r?)\b", inner))
    assert loads <= rows + columns * 4 // target.vector_bytes


def test_the_text_of_a_kernel_depends_on_nothing_but_the_kernel():
    kernel, target = register_tile(4, 16), targets.avx2()
    assert kernel_text(kernel, target) == kernel_text(register_tile(4, 16), target)


MIN_WITH_ZERO = """
from monograph.codegen.target import host
from monograph.kernel.ir import *
from monograph.runtime.machine_code import kernel_assembly
i, x = Var("i"), Load("x", Var("i"), "f32")
whole = Call("cast", (x,), "u64")
value = Call("min", (whole, whole % (whole - whole)), "u64")
body = (Loop("i", Const(0, "i64"), Var("n"), (Store("y", i, value),), "vector"),)
buffers = (Buffer("x", "f32"), Buffer("y", "u64", True))
assert kernel_assembly(Kernel("k", buffers, body, ("n",)), host())
"""


def test_min_of_a_converted_float_and_zero_does_not_end_the_compiler():
    """LLVM 22 would build a conversion to an integer of no bits, and abort."""
    done = subprocess.run(
        [sys.executable, "-c", MIN_WITH_ZERO], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "triple", ["x86_64-pc-windows-msvc", "arm64-apple-macosx13.0.0", "aarch64-unknown-linux-gnu"]
)
def test_the_driver_compiles_for_other_systems(triple):
    code = (
        "import sys\n"
        "from monograph.codegen.objects import compile_ir\n"
        "from monograph.codegen.target import Target\n"
        "from monograph.runtime.driver import driver_ir\n"
        "cpu = 'x86-64' if 'x86' in sys.argv[1] else 'generic'\n"
        "target = Target(sys.argv[1], cpu, '', 16)\n"
        "assert len(compile_ir(driver_ir(target.triple), target)) > 500\n"
    )
    command = [sys.executable, "-c", code, triple]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_settings_override_the_host(monkeypatch):
    monkeypatch.setenv("MONOGRAPH_CPU", "x86-64-v3")
    host = targets.host.__wrapped__()
    assert (host.cpu, host.vector_bytes, host.fma, host.masked) == ("x86-64-v3", 32, True, False)
    monkeypatch.setenv("MONOGRAPH_CPU_FEATURES", "-fma")
    assert not targets.host.__wrapped__().fma
    monkeypatch.setenv("MONOGRAPH_CPU", "x86-64")
    monkeypatch.setenv("MONOGRAPH_CPU_FEATURES", "")
    assert targets.host.__wrapped__().vector_bytes == 16


def test_threads_compile_at_the_same_time_and_to_the_same():
    target = targets.host()
    rng = np.random.default_rng(5)
    texts = [module_ir([elementwise_kernel(rng, dtype)], target) for dtype in ALL] * 3
    expected = [compile_ir(text, target) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: compile_ir(text, target), texts)) == expected


def test_text_that_is_no_module_is_an_error_and_the_next_one_compiles():
    target = targets.host()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="expected type"):
            compile_ir("define nothing", target)
    assert compile_ir("define void @f() { ret void }", target)
