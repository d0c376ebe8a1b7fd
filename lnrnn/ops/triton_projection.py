"""The projection of an LSTM's hidden state, h = W_hr y, between the kernels of its steps.

The step's kernel puts out y and knows nothing of h, so what the kernel does to h elsewhere is done
here, by torch: zoneout, resets, and the dropout of what the next product reads.

Dimensions: B sequences, H hidden units, R recurrent features. A step's tensors are a dictionary, as
`lnrnn.ops.triton_steps.Loop` names them; it begins at row ``first`` with ``live`` sequences.
"""

from typing import Any

import torch
from torch import Tensor

OF_H = ("fresh_h", "zoneout", "h_seen", "seen_h", "seen_share", "d_direct")


def apart_from_h(t: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the tensors of a kernel that does not see h."""
    return {**t, **dict.fromkeys(OF_H), **more}


def project(t: dict[str, Any], first: int, live: int) -> None:
    """Write h, (B, R), from y, (B, H), what came out, and what the next product reads."""
    here, h = slice(first, first + live), t["h"][:live]
    y, weight_hr, share = t["y"][:live], t["weight_hr"].t(), t["zoneout"]
    if t["fresh_h"] is not None:
        h.copy_(torch.where(t["fresh_h"][here] != 0, y.mm(weight_hr), h))
    elif share is not None:
        h.copy_(torch.lerp(y.mm(weight_hr).to(share.dtype), h.to(share.dtype), share))
    else:
        torch.mm(y, weight_hr, out=h)
    t["output"][here].copy_(h)
    if t["cuts"] is not None:
        cut = t["cuts"][here] != 0
        if t["reset_h"] is None:
            h.masked_fill_(cut, 0)
        else:
            h.copy_(torch.where(cut, t["reset_h"][:live], h))
    if t["h_seen"] is not None:
        t["h_seen"][:live].copy_(h * t["seen_h"][:live] / t["seen_share"])


def project_back(t: dict[str, Any], first: int, live: int) -> None:
    """Write the gradient of y, (B, H), and keep that of what was projected, (B, R)."""
    here = slice(first, first + live)
    d_h = _d_of_h(t, live)
    if t["cuts"] is not None:
        cut = t["cuts"][here] != 0
        if t["d_reset_h"] is not None:
            t["d_reset_h"][:live] += d_h.masked_fill(~cut, 0)
        d_h.masked_fill_(cut, 0)
    if t["d_direct"] is None:
        torch.add(d_h, t["d_output"][here], out=t["d_sum"][:live])
    else:
        t["d_sum"][:live].copy_(_fresh(t, d_h + t["d_output"][here], here, live))
    t["d_projected"][here].copy_(t["d_sum"][:live])
    torch.mm(t["d_sum"][:live], t["weight_hr"], out=t["d_y"][:live])


def _d_of_h(t: dict[str, Any], live: int) -> Tensor:
    """Return the gradient of h from the next step, which may be written to."""
    d_h = t["d_h"][:live]
    if t["d_direct"] is None:
        return d_h
    if t["seen_h"] is not None:
        d_h = d_h * t["seen_h"][:live] / t["seen_share"]
    return t["d_direct"][:live] + d_h


def _fresh(t: dict[str, Any], d: Tensor, here: slice, live: int) -> Tensor:
    """Return the gradient of what was projected, and leave the old state's to the step before."""
    old = torch.zeros_like(d)
    if t["fresh_h"] is not None:
        old = d.masked_fill(t["fresh_h"][here] != 0, 0)
    if t["zoneout"] is not None:
        old = d * t["zoneout"]
    t["d_direct"][:live].copy_(old)
    return d - old
