"""How layers and cells answer torch's tools that read modules or record what they do.

`torch.compile` and `torch.export` record a call; `torch.fx` passes stand-ins through a module;
`torch.jit.script` reads its source; `torch.ao.quantization` looks at its type.
"""

import warnings
from typing import Any

import torch
from torch import SymInt, Tensor, nn
from torch._compile import _disable_dynamo
from torch.fx import Proxy

from lnrnn.ops.recording import constant, is_for_onnx


class Recurrent(nn.Module):
    """What layers and cells have in common towards such tools."""

    @property
    def _interrupts(self) -> bool:
        """Whether it stays out of a graph being compiled that may be cut."""
        return False

    def _run_by_tool(self, input: Any, *others: Any, **options: Any) -> Any:
        """Return what comes instead of running on ``input``, or None where nothing does.

        For `torch.fx.symbolic_trace` a layer is one node, as torch's layers are. `torch.compile`
        runs torch's own recurrence as it is, between two graphs, as it does `torch.nn`'s layers.
        """
        if isinstance(input, Proxy):
            tracer: Any = input.tracer
            path = tracer.path_of_module(self)
            if not path:
                raise TypeError(
                    f"lnrnn's {type(self).__name__} is one node of a torch.fx graph, and no graph "
                    "of its own; trace a module that holds it"
                )
            options = {name: value for name, value in options.items() if value is not None}
            return tracer.create_proxy("call_module", path, (input, *others), options)
        if torch.compiler.is_dynamo_compiling() and self._interrupts and not _is_whole():
            return _run_uncompiled(self, input, *others, **options)
        return None

    def __prepare_scriptable__(self) -> nn.Module:
        raise NotImplementedError(
            f"torch.jit.script cannot read the source of lnrnn's {type(self).__name__}; record it "
            "with torch.jit.trace(module, example_inputs), or with torch.export, which replaces "
            "TorchScript"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig":  # which torch.ao.quantization sets before it swaps what it knows
            warnings.warn(
                "torch.ao.quantization swaps torch's own layers and leaves lnrnn's "
                f"{type(self).__name__} in full precision; export it with lnrnn.export.onnx and "
                "quantize the file with onnxruntime.quantization.quantize_dynamic",
                stacklevel=2,
            )
        super().__setattr__(name, value)


@_disable_dynamo
def _run_uncompiled(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    return module.forward(*inputs, **options)


def check_recordable(what: str, why: str, *, traced: bool) -> None:
    """Check that a call is not being recorded whose course its arguments' values decide.

    Args:
        what: The argument.
        why: How they do, and what to do instead.
        traced: Whether `torch.jit.trace` can record it.

    Raises:
        NotImplementedError: If `torch.export`, the writing of an ONNX file, ``fullgraph=True`` or
            `torch.jit.trace` is recording it.
    """
    recorded = torch.compiler.is_exporting() or (
        torch.compiler.is_dynamo_compiling() and _is_whole()
    )
    if recorded or (torch.jit.is_tracing() and not traced):  # pyright: ignore[reportPrivateImportUsage]
        raise NotImplementedError(f"{what} cannot be recorded as one program here: {why}")


def wants_one_node(x: Tensor) -> bool:
    """Return whether torch's own recurrence over ``x``, (T, B, I), is to be one node of a graph.

    That is where the graph may not be interrupted, and where written-out steps would not do: their
    number is open, or ONNX has a node of its own. Autocast is torch's business: it stays out.
    """
    if not torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
        return False
    if torch.compiler.is_dynamo_compiling():
        return True
    return torch.compiler.is_exporting() and (isinstance(x.shape[0], SymInt) or is_for_onnx())


@constant
def _is_whole() -> bool:
    """Return whether the graph that is being compiled may not be interrupted (``fullgraph``)."""
    from torch._dynamo.symbolic_convert import InstructionTranslator

    translator = InstructionTranslator.current_tx()
    return bool(translator.one_graph or translator.error_on_graph_break)
