"""Run one training step of the cnn workload and print the time of day when it was finished.

python benchmarks/first_step.py {eager,jit,torch,torch-compile,jax}     (run.py starts it)
"""

import sys
import time

from contenders import make
from models import WORKLOADS

if __name__ == "__main__":
    contender = make(sys.argv[1], WORKLOADS["cnn"], None, 2)
    loss = contender.finish(contender.step())
    print(time.time(), loss)
