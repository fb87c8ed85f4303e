"""Apple's GPU is not used."""


def is_available() -> bool:
    """False."""
    return False


is_built = is_available
