"""What a split's tensors stand for, in words that a fingerprint can hash."""

from lnrnn.data.sequences import Sequences
from lnrnn.data.windows import Windows


def meaning(split: Sequences | Windows) -> str:
    """Return what a split's values and classes stand for; nothing where they are as they were read.

    Statistics are rounded, a mean in standard deviations: their last bits depend on the processor.
    """
    parts: list[object] = [("labels", split.labels)] if split.labels else []
    if split.scaling is not None:
        pairs = zip(split.scaling.mean, split.scaling.std, strict=True)
        parts.append(("scaling", [_rounded(mean, std) for mean, std in pairs]))
    if split.scale != (0.0, 1.0):
        parts.append(("scale", _rounded(*split.scale)))
    if split.masked:
        parts.append("masked")
    if isinstance(split, Windows):
        parts.append(split.cut)
    return repr(parts) if parts else ""


def _rounded(mean: float, std: float) -> tuple[float, str]:
    return round(mean / std, 6) + 0.0, f"{std:.6e}"  # no -0.0
