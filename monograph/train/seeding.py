"""One seed for all sources of random numbers, and their state to save and restore."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import ArgumentError


def seed_everything(seed: int | None = None) -> int:
    """Seed Python's, NumPy's and monograph's generators; returns the seed.

    seed  0 <= seed < 2**32; None takes one from the operating system
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ArgumentError(f"seed_everything: seed must be an int in [0, 2**32), got {seed!r}")
    random.seed(int(seed))
    np.random.seed(int(seed))
    mg.manual_seed(int(seed))
    return int(seed)


def random_state() -> dict[str, Any]:
    """The state of all three generators, in a form that a checkpoint can hold."""
    return {
        "monograph": mg.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on from what random_state gave."""
    mg.set_rng_state(state["monograph"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
