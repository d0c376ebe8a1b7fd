"""The most that the default kernels take, as each release of Triton compiles them.

Measured over `COMBINATIONS`: float32 and bfloat16, H of 64 to 1024, four GPUs. A kernel that takes
more has become worse; `make aot-table` prints where.
"""

import triton  # pyright: ignore[reportMissingImports]

RELEASES = ("3.6", "3.7", "3.8", "3.9")
# By release: registers of a thread, and instructions.
CEILINGS = {
    "rnn_forward": ((36, 262), (36, 264), (36, 252), (34, 252)),
    "rnn_backward": ((43, 366), (43, 366), (45, 365), (45, 318)),
    "lstm_forward": ((72, 881), (71, 877), (72, 826), (80, 838)),
    "lstm_backward": ((126, 1148), (114, 1152), (128, 1105), (128, 1120)),
    "gru_forward": ((64, 591), (64, 593), (64, 558), (64, 569)),
    "gru_backward": ((86, 805), (86, 805), (85, 755), (80, 783)),
}


def ceiling(kernel: str) -> tuple[int, int]:
    """Return the most registers and instructions; in a release that is new, what the GPU has."""
    release = ".".join(triton.__version__.split(".")[:2])
    return CEILINGS[kernel][RELEASES.index(release)] if release in RELEASES else (255, 10**6)
