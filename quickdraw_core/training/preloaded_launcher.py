"""torch's launcher, which loads what its ranks need before it forks them:
`preloaded_launcher.py OPTIONS… rank.py RUN STORE`.

Each rank would take seconds to load that, all of them at once. Nothing here may begin CUDA,
which a fork would break.
"""

import gc

import torch._dynamo  # noqa: F401 — torch's optimisers load it when they are made
from torch.distributed.run import main

import quickdraw_core.training.loop  # noqa: F401

if __name__ == "__main__":
    try:
        main()
    finally:
        gc.freeze()  # as the command line does
