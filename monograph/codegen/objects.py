"""LLVM IR text -> object code: the few passes that our IR needs, and LLVM's code generator.

Our IR is already vectorized, with shared and loop-invariant code in place; what is left for LLVM is
to turn local arrays into registers and to select instructions. Besides target.py and
runtime/machine_code.py the only file that touches llvmlite. Safe from several threads at once.
"""

from __future__ import annotations

import threading
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


def _machine(llvm: Any, target: Target, opt: int) -> Any:
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="default"
    )


def compile_ir(text: str, target: Target, assembly: bool = False, opt: int = 2) -> Any:
    """Object code (bytes) of one module, or its assembly (str).

    A parsed module is emitted exactly once: a second emission would abort the process (LLVM 22).
    """
    llvm = llvm_binding()
    machine = _machine(llvm, target, opt)
    context = llvm.create_context()
    module = llvm.parse_assembly(text, context)
    module.data_layout = str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=0)
    builder = llvm.create_pass_builder(machine, tuning)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.run(module, builder)
    return machine.emit_assembly(module) if assembly else machine.emit_object(module)
