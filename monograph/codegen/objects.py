"""LLVM IR text -> object code: the few passes that our IR needs, and LLVM's code generator.

Our IR is already vectorized, with shared and loop-invariant code in place; what is left for LLVM is
to turn local arrays into registers and to select instructions. Besides target.py and
runtime/machine_code.py the only file that touches llvmlite. Safe from several threads at once.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

from .target import Target

_ready = threading.Lock()
_initialized = False


def llvm_binding() -> Any:
    """llvmlite's binding with all targets set up. Imported here, at the first compile."""
    global _initialized
    import llvmlite.binding as llvm

    with _ready:
        if not _initialized:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            _initialized = True
    return llvm


class Tools:
    """What one thread compiles with, kept for the next module: making them takes a fifth of it."""

    def __init__(self, target: Target, opt: int):
        llvm = llvm_binding()
        self.machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="default"
        )
        self.layout = f'target datalayout = "{self.machine.target_data}"\n'
        tuning = llvm.create_pipeline_tuning_options(speed_level=0)
        self.builder = llvm.create_pass_builder(self.machine, tuning)
        self.passes = llvm.create_new_module_pass_manager()
        self.passes.add_sroa_pass()


_idle: dict[tuple[Target, int], list[Tools]] = {}


def compile_ir(text: str, target: Target, assembly: bool = False, opt: int = 2) -> Any:
    """Object code (bytes) of one module, or its assembly (str).

    A parsed module is emitted exactly once: a second emission would abort the process (LLVM 22).
    """
    idle = _idle.setdefault((target, opt), [])
    try:
        tools = idle.pop()
    except IndexError:
        tools = Tools(target, opt)
    try:
        return _compile(text, tools, assembly)
    finally:
        idle.append(tools)


def _compile(text: str, tools: Tools, assembly: bool) -> Any:
    llvm = llvm_binding()
    ffi = llvm.ffi
    context = llvm.create_context()
    with ffi.OutputString() as error:
        source = (tools.layout + text).encode()
        found = _unlocked("LLVMPY_ParseAssembly")(context, source, error)
        module = llvm.ModuleRef(found, context)
        if error:
            raise RuntimeError(f"LLVM does not understand what was generated: {error}")
    _unlocked("LLVMPY_RunNewModulePassManager")(tools.passes, module, tools.builder)
    with ffi.OutputString() as error:
        emit = _unlocked("LLVMPY_TargetMachineEmitToMemory")
        memory = emit(tools.machine, module, int(not assembly), error)
        if not memory:
            raise RuntimeError(f"LLVM cannot compile what was generated: {error}")
    try:
        start, size = ffi.lib.LLVMPY_GetBufferStart(memory), ffi.lib.LLVMPY_GetBufferSize(memory)
        code = ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(memory)
    return code.decode() if assembly else code


@functools.cache
def _unlocked(name: str) -> Callable:
    """A function of LLVM without llvmlite's lock, which lets one thread in at a time.

    For what works on one module alone: each has its own context, and each thread its own tools, so
    that LLVM allows it. It takes nearly all of the time.
    """
    function = getattr(llvm_binding().ffi.lib, name)
    return getattr(function, "_cfn", function)
