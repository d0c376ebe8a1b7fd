"""The most that the default kernels take, as each release of Triton compiles them.

Measured over `COMBINATIONS`: float32 and bfloat16, H of 64 to 1024, four GPUs. A kernel that takes
more has become worse; `make aot-table` prints where.
"""

import triton  # pyright: ignore[reportMissingImports]

RELEASES = ("3.6", "3.7", "3.8", "3.9")
# By release: registers of a thread, and instructions.
CEILINGS = {
    "rnn_forward": ((40, 262), (38, 264), (38, 253), (38, 252)),
    "rnn_backward": ((43, 324), (43, 324), (45, 314), (45, 314)),
    "lstm_forward": ((72, 881), (71, 877), (72, 826), (80, 838)),
    "lstm_backward": ((126, 1152), (118, 1152), (126, 1078), (126, 1121)),
    "gru_forward": ((64, 592), (64, 592), (64, 561), (64, 571)),
    "gru_backward": ((91, 805), (91, 805), (94, 740), (90, 776)),
}


def ceiling(kernel: str) -> tuple[int, int]:
    """Return the most registers and instructions; in a release that is new, what the GPU has."""
    release = ".".join(triton.__version__.split(".")[:2])
    return CEILINGS[kernel][RELEASES.index(release)] if release in RELEASES else (255, 10**6)
