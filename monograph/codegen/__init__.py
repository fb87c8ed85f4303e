"""From the loop language to machine code: LLVM IR as text, and object code from it."""
