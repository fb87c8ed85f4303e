"""cuDNN's switches: programs may set them; nothing here reads them."""

benchmark = False
deterministic = False
enabled = False
allow_tf32 = False


def is_available() -> bool:
    """False."""
    return False


def version() -> None:
    """None: there is no cuDNN."""
