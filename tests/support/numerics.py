"""How close is close enough: every tolerance of the numeric tests, with its reason.

Truth is the reference in float64. A computation in a smaller dtype is measured against that, and
judged by how far the reference itself is off in that dtype.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

Result = Tensor | tuple[Tensor, ...]

# Two orders of summation over at most a few hundred float64 values: 1e-16 a rounding, some dozen
# steps of a recurrence, two digits to spare.
EXACT = 1e-12

# Float64 with a norm that divides rounding errors up: properties that hold for eps -> 0 only.
INVARIANT = 1e-10

# Definitions that are not ours must differ by far more than any rounding.
DIFFERENT = 1e-4

# One layer in float32 (2**-24 a rounding) over some ten steps: a hundred roundings and some margin.
FLOAT32 = 1e-5

# Losses, in nats, of two trainings over 200 steps that magnify no roundings: they differ by 1e-6.
LOSS_CURVE = 1e-4

# One layer in bfloat16 (8 bits, 2**-8 a rounding) over some ten steps, against float32.
BFLOAT16 = 3e-2


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Return the root mean square of the error over that of the truth."""
    value, truth = value.detach().double(), truth.detach().double()
    size = truth.square().mean().sqrt().clamp_min(1e-30)
    return float((value - truth).square().mean().sqrt() / size)


def assert_equal(value: Tensor, truth: Tensor, name: str = "value") -> None:
    """Check that two tensors are the same bit for bit, NaN excluded."""
    assert value.shape == truth.shape, f"{name}: shape {value.shape}, expected {truth.shape}"
    assert value.dtype == truth.dtype, f"{name}: {value.dtype}, expected {truth.dtype}"
    assert torch.equal(value, truth), f"{name} is off by {relative_error(value, truth):.1e}"


def assert_close(
    value: Tensor, truth: Tensor, tolerance: float = EXACT, name: str = "value"
) -> None:
    """Check that two tensors agree to a relative root mean square error."""
    assert value.shape == truth.shape, f"{name}: shape {value.shape}, expected {truth.shape}"
    error = relative_error(value, truth)
    assert error <= tolerance, f"{name} is off by {error:.1e}, allowed {tolerance:.0e}"


def cotangents(outputs: Iterable[Tensor]) -> list[Tensor]:
    """Return a fixed random cotangent for each output, equal for all dtypes up to rounding.

    It has to be random. Under a cotangent of ones a layer norm with equal gains passes back exactly
    zero, and a test of gradients by ``.sum().backward()`` compares zeros. So it does under a
    cotangent equal to its input, hence a seed that no test data are drawn with.
    """
    generator = torch.Generator().manual_seed(160706450)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]


def output_and_grads(function: Callable[..., Result], args: Sequence[Tensor]) -> list[Tensor]:
    """Return what ``function(*args)`` puts out, and its gradients for every argument.

    Args:
        function: Takes the arguments; returns one tensor or several.
        args: Floating tensors.

    Returns:
        The outputs, then one gradient an argument, under the cotangents above.
    """
    leaves = [arg.detach().clone().requires_grad_() for arg in args]
    result = function(*leaves)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    grads = torch.autograd.grad(outputs, leaves, cotangents(outputs))
    return [output.detach() for output in outputs] + list(grads)


def assert_as_accurate(
    kernel: Callable[..., Result],
    reference: Callable[..., Result],
    args: Mapping[str, Tensor],
    slack: float = 2.0,
    alike: Sequence[Callable[..., Result]] = (),
) -> None:
    """Check that ``kernel`` is off by at most ``slack`` times what ``reference`` is off by.

    Truth is the reference in float64; kernel and reference then run in the dtype of ``args``. What
    counts is the root mean square error relative to the truth, of each output and each gradient
    apart. Four roundings of the dtype come on top of what is allowed, for a reference that happens
    to hit the truth.

    Rounding errors grow along a recurrence, differently for equally accurate computations: two
    times the reference's error holds up to about T = 24 and no further. Past that, pass ``alike``
    and a larger ``slack``.

    Args:
        kernel: What is judged; takes the values of ``args``, returns one tensor or several.
        reference: What defines the numbers.
        args: Arguments by name, all of one floating dtype.
        slack: Allowed multiple of the reference's error.
        alike: Other ways to compute the reference; the largest of their errors and its counts. They
            are only run until the kernel is seen to be as accurate.
    """
    values = list(args.values())
    truth = output_and_grads(reference, [value.double() for value in values])
    natives = [output_and_grads(reference, values)]
    others = iter(alike)
    ours = output_and_grads(kernel, values)
    floor = 4 * torch.finfo(values[0].dtype).eps
    outputs = [f"output {i}" for i in range(len(truth) - len(values))]
    names = outputs + [f"gradient of {name}" for name in args]
    for i, name in enumerate(names):
        assert ours[i].isfinite().all(), f"{name} has a value that is not finite"
        error = relative_error(ours[i], truth[i])
        allowed = slack * max(relative_error(native[i], truth[i]) for native in natives) + floor
        while error > allowed and (other := next(others, None)) is not None:
            natives.append(output_and_grads(other, values))
            allowed = max(allowed, slack * relative_error(natives[-1][i], truth[i]) + floor)
        assert error <= allowed, f"{name} is off by {error:.2e}, allowed {allowed:.2e}"


def nudged(
    function: Callable[..., Result], key: int, dtype: torch.dtype | None = None
) -> Callable[..., Result]:
    """Return the function of its arguments, each one rounding off, of ``dtype`` or their own.

    Eight of them are taken: of three, one draw of 60 had all below a quarter of the median.

    Some draws divide by a small variance, which magnifies whatever rounding comes before it, the
    arguments' own included. No algorithm can be held to less than that, and one run of the
    reference may be lucky.
    """

    def call(*args: Tensor) -> Result:
        generator = torch.Generator().manual_seed(key)
        eps = torch.finfo(dtype or args[0].dtype).eps
        signs = [torch.randint(2, a.shape, generator=generator).to(a.device) * 2 - 1 for a in args]
        wide = [torch.promote_types(a.dtype, torch.float32) for a in args]  # 1 + eps is a number
        factors = [1 + eps * s.to(dtype) for s, dtype in zip(signs, wide, strict=True)]
        return function(*(a * factor for a, factor in zip(args, factors, strict=True)))

    return call
