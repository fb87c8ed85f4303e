"""The version, and of what it was built for."""

__version__ = "0.1.0"
debug = False
cuda = hip = xpu = rocm = None
git_version = "unknown"
