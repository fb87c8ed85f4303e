"""A kernel as LLVM IR text: statements, loops, and the function around them.

`kernel_ir(kernel, target)` gives the functions of one kernel; `module_ir(kernels, target)` a whole
module. A kernel becomes an internal function whose buffers are `noalias` parameters, and an
exported one of the form Kernel documents. Values and memory: memory.py. Vector loops: vectorize.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel.checker import KernelError, check
from ..kernel.ir import If, Kernel, Let, Local, Loop, Prefetch, Reduce, Stmt, Store
from . import polynomial as poly
from .builder import BYTES, MEMORY, Value
from .memory import Array
from .polynomial import Polynomial
from .target import Target
from .transpose import store_transposed
from .vectorize import VectorLoops


class KernelWriter(VectorLoops):
    """Writes the body of one kernel."""

    def __init__(self, kernel: Kernel, target: Target):
        super().__init__(kernel, target)
        for i, buffer in enumerate(kernel.buffers):
            pointer = Value(f"%b{i}", "i64")
            self.arrays[buffer.name] = Array(pointer, buffer.dtype, buffer.written)
        for i, size in enumerate(kernel.sizes):
            self.indices[size] = self.atom(Value(f"%s{i}", "i64", False, 0, True))

    def write(self) -> str:
        kernel = self.kernel
        first, last = Value("%first", "i64", False, 0, True), Value("%last", "i64")
        self.counted_loop(
            self.atom(first),
            self.atom(last),
            1,
            lambda i: self.scoped({"chunk": self.atom(i)}, kernel.body),
            certain=True,  # the runtime never passes an empty range
        )
        parameters = [f"ptr noalias nonnull %b{i}" for i in range(len(kernel.buffers))]
        parameters += [f"i64 %s{i}" for i in range(len(kernel.sizes))]
        parameters += ["i64 %first", "i64 %last"]
        name = kernel.name
        body = [
            f'define internal void @"{name}.body"({", ".join(parameters)}) #0 {{',
            "entry:",
            *self.allocas,
            *self.region.lines,
            "  ret void",
            "}",
            f'define void @"{name}"(ptr %buffers, ptr %sizes, i64 %first, i64 %last) #0 {{',
        ]
        arguments = []
        for i in range(len(kernel.buffers)):
            body.append(f"  %p{i} = getelementptr ptr, ptr %buffers, i64 {i}")
            body.append(f"  %b{i} = load ptr, ptr %p{i}")
            arguments.append(f"ptr %b{i}")
        for i in range(len(kernel.sizes)):
            body.append(f"  %q{i} = getelementptr i64, ptr %sizes, i64 {i}")
            body.append(f"  %s{i} = load i64, ptr %q{i}")
            arguments.append(f"i64 %s{i}")
        arguments += ["i64 %first", "i64 %last"]
        body.append(f'  call void @"{name}.body"({", ".join(arguments)})')
        body += ["  ret void", "}"]
        return "\n".join(body)

    # -- statements ------------------------------------------------------------------------------

    def scoped(self, names: dict[str, Polynomial], body: tuple[Stmt, ...]) -> None:
        """Write statements with more names bound; the bindings end with the body."""
        saved = self.indices, self.values, self.arrays
        self.indices, self.values = {**self.indices, **names}, dict(self.values)
        self.arrays = dict(self.arrays)
        for name in names:
            self.values.pop(name, None)
        for stmt in body:
            self.forget()
            self.stmt(stmt)
        self.indices, self.values, self.arrays = saved
        self.forget()

    def stmt(self, stmt: Stmt) -> None:
        if isinstance(stmt, Let):
            if stmt.value.dtype == "i64" and self.is_index(stmt.value):
                self.indices[stmt.name] = self.index(stmt.value)
                self.values.pop(stmt.name, None)
            elif self.is_bound(stmt.value):
                # An atom of indices: what adds to it keeps its stride.
                self.indices[stmt.name] = self.atom(self.value(stmt.value))
                self.values.pop(stmt.name, None)
            else:
                self.values[stmt.name] = self.value(stmt.value)
                self.indices.pop(stmt.name, None)
        elif isinstance(stmt, Local):
            self.local(stmt)
        elif isinstance(stmt, Store):
            mask = None if stmt.mask is None else self.value(stmt.mask)
            value = self.value(stmt.value)
            self.store_at(self.arrays[stmt.buffer], self.index(stmt.index), value, mask)
        elif isinstance(stmt, Reduce):
            self.reduce(stmt)
        elif isinstance(stmt, Prefetch):
            if self.lanes is None:
                pointer = self.address(self.arrays[stmt.buffer], self.index(stmt.index))
                name = self.intrinsic("prefetch", "p0", "void", "ptr, i32, i32, i32")
                # For reading, into the second cache; what will be stored to, into the first.
                how = "1, i32 3" if self.arrays[stmt.buffer].written else "0, i32 2"
                self.line(f"call void {name}(ptr {pointer.text}, i32 {how}, i32 1)")
        elif isinstance(stmt, If):
            self.branch(stmt)
        elif stmt.kind == "unroll":
            self.unrolled(stmt)
        elif stmt.kind == "vector" and self.lanes is None:
            self.vector_loop(stmt)
        else:
            start, stop = self.index(stmt.start), self.index(stmt.stop)
            self.counted_loop(
                start, stop, stmt.step, lambda i: self.scoped({stmt.var: self.atom(i)}, stmt.body)
            )

    def local(self, stmt: Local) -> None:
        kind = MEMORY[stmt.dtype]
        name = self.name()
        if self.lanes is not None and self.width > 1:
            shape, private = f"[{stmt.size} x <{self.width} x {kind}>]", True
        else:  # padded, so that a whole vector may be read at the last element
            padding = self.target.vector_bytes // BYTES[stmt.dtype]
            shape, private = f"[{stmt.size + padding} x {kind}]", False
        self.allocas.append(f"  {name} = alloca {shape}, align 64")
        pointer = Value(name, "i64")
        self.arrays[stmt.name] = Array(
            pointer, stmt.dtype, True, True, self.lanes is not None, private
        )

    def unrolled(self, stmt: Loop) -> None:
        start, stop = (poly.as_constant(self.index(x)) for x in (stmt.start, stmt.stop))
        if start is None or stop is None:
            raise KernelError(
                f"kernel {self.kernel.name}: unroll loop over {stmt.var}: "
                "its range must be constant"
            )
        if store_transposed(self, stmt, start, stop):
            return
        for i in range(start, stop, stmt.step):
            self.scoped({stmt.var: poly.constant(i)}, stmt.body)

    def branch(self, stmt: If) -> None:
        cond = self.value(stmt.cond)
        if cond.lanes:
            raise KernelError(
                f"kernel {self.kernel.name}: an If inside a vector loop depends on the loop's "
                "variable; use select or a mask"
            )
        if cond.is_constant:
            self.scoped({}, stmt.then if cond.text == "true" else stmt.orelse)
            return
        then, other, done = self.label("then"), self.label("else"), self.label("done")
        self.line(f"br i1 {cond.text}, label %{then}, label %{other}")
        for label, body in ((then, stmt.then), (other, stmt.orelse)):
            region = self.enter("if", False, label)
            self.scoped({}, body)
            self.leave()
            self.region.lines += [f"{label}:", *region.lines, f"  br label %{done}"]
        self.start_block(done)

    def reduce(self, stmt: Reduce) -> None:
        array, index = self.arrays[stmt.buffer], self.index(stmt.index)
        if self.lanes is not None and not array.inner and self.is_uniform(index):
            self.reduce_lanes(stmt, array, index)
            return
        if self.lanes is not None and self.place(array, index)[0] == "scatter":
            self.reduce_scattered(stmt, array, index)
            return
        old = self.load_at(array, index)
        self.store_at(array, index, self.combine(stmt.op, old, stmt.value), None)


def kernel_ir(kernel: Kernel, target: Target) -> tuple[str, dict[str, str]]:
    """(functions, declarations) of one kernel as LLVM IR text. Checks the kernel first."""
    check(kernel)
    writer = KernelWriter(kernel, target)
    return writer.write(), writer.declarations


def module_ir(kernels: Sequence[Kernel], target: Target) -> str:
    """One LLVM module with all the kernels."""
    texts: list[str] = []
    declarations: dict[str, str] = {}
    for kernel in kernels:
        text, declared = kernel_ir(kernel, target)
        texts.append(text)
        declarations.update(declared)
    bits = target.vector_bytes * 8
    attributes = (
        f'attributes #0 = {{ nounwind "min-legal-vector-width"="{bits}" '
        f'"prefer-vector-width"="{bits}" }}'
    )
    head = f'target triple = "{target.triple}"'
    return "\n".join([head, *sorted(declarations.values()), *texts, attributes]) + "\n"
