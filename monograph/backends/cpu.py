"""What the compiler knows of this machine."""

from ..codegen.target import host


def get_cpu_capability() -> str:
    """The widest vectors that compiled code uses: "AVX512", "AVX2" or "DEFAULT"."""
    bits = host().vector_bytes * 8
    return {512: "AVX512", 256: "AVX2"}.get(bits, "DEFAULT")
