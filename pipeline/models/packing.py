"""A tower as a graph of packed oneDNN operators: the speed of a compiled model without a compiler.

make_fx gives the graph of a tower for one fixed input shape: the one that torch.export gives, in less time. On it:
batch norms are folded into the convolutions before them (in float64), zero padding and activations join their operator,
residual sums join the convolution that ends a branch, and weights are laid out as oneDNN wants them, once. These are the
fusions of torch.compile's freezing, which needs a C++ compiler, ten times the start-up time and gains nothing more here.
The operators (`torch.ops.mkldnn`) are torch's own but not documented: `route.can_pack` looks for them, and `checked_tower`
compares results with the plain tower before anything is embedded. Packed products gain with AVX-512; under AVX2
convolutions alone do (`towers`).
"""

import math
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from pipeline.errors import InputError

Tower = Callable[[Tensor], Tensor]

aten, onednn = torch.ops.aten, torch.ops.mkldnn

MAX_DIFFERENCE: Mapping[torch.dtype, float] = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of a unit vector's component between the fused and the plain tower, by the type of the products' factors."""

ACTIVATIONS: Mapping[Any, str] = {
    aten.relu.default: "relu", aten.relu_.default: "relu", aten.silu.default: "swish", aten.silu_.default: "swish",
    aten.hardtanh.default: "hardtanh", aten.hardtanh_.default: "hardtanh", aten.gelu.default: "gelu",
}
"""oneDNN's names."""

CONVOLUTION_DEFAULTS: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)


def packed(tower: nn.Module, example: Tensor) -> Tower:
    """The tower as a graph of packed oneDNN operators, for inputs of the example's shape and memory layout. Raises InputError where
    tracing cannot follow it."""
    try:
        graph_module = make_fx(tower, tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True)(example)
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        raise InputError(f"this model cannot be packed ({str(error).splitlines()[0]}): set model.compile to false") from error
    _drop_idle(graph_module.graph)
    for node in list(graph_module.graph.nodes):
        if node.target == aten.conv2d.default:
            _pack_convolution(graph_module, node)
        elif node.target == aten.linear.default:
            _pack_linear(graph_module, node)
    graph_module.graph.eliminate_dead_code()
    _drop_unused_weights(graph_module)
    graph_module.recompile()
    return graph_module


def checked_tower(tower: Tower, plain: Tower, example: Tensor, tolerance: float, rows: int = 2) -> Tower:
    """`tower`, after its vectors [n, dimension] of the example's first rows agreed with the plain tower's. Raises InputError if a
    component differs by more than `tolerance`."""
    expected = plain(example[:rows])
    difference = float((tower(example)[:rows].float() - expected.float()).abs().max())
    if not difference <= tolerance:
        raise InputError(f"fused arithmetic is off by {difference:.1e} on this machine: set model.compile to false")
    return tower


def _drop_idle(graph: fx.Graph) -> None:
    """Removes what does nothing at inference."""
    for node in list(graph.nodes):
        if node.target == aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.target == aten.dropout.default or (
            node.target == aten.to.dtype and node.args[0].meta["val"].dtype == node.args[1]
        ):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _pack_linear(module: fx.GraphModule, node: fx.Node) -> None:
    operands: tuple[Any, ...] = node.args
    source, weight, bias = (*operands, None)[:3]
    weights, rows = _value(module, weight), math.prod(source.meta["val"].shape[:-1])
    chain = [node]
    activation = _activation(chain)
    with module.graph.inserting_before(chain[-1]):
        layout = _constant(module, onednn._reorder_linear_weight(weights.contiguous(), rows))
        arguments = (source, layout, bias, *activation)
        _replace(chain, module.graph.call_function(onednn._linear_pointwise.default, arguments))


def _pack_convolution(module: fx.GraphModule, node: fx.Node) -> None:
    operands: tuple[Any, ...] = node.args
    source, weight, bias, stride, padding, dilation, groups = (*operands, *CONVOLUTION_DEFAULTS[len(operands) - 2:])
    chain = [node]
    weights, biases = _folded(module, chain, _value(module, weight), _value(module, bias))
    source, weights, padding = _padded(source, weights, list(padding), list(dilation))
    activation = _activation(chain)
    other = _residual(chain) if activation[0] == "none" else None
    where = (padding, stride, dilation, groups)
    weights = weights.contiguous(memory_format=torch.channels_last)
    layout = onednn._reorder_convolution_weight(weights, *where, list(source.meta["val"].shape))
    with module.graph.inserting_before(chain[-1]):
        constants = _constant(module, layout), None if biases is None else _constant(module, biases)
        if other is None:
            call = module.graph.call_function(onednn._convolution_pointwise.default, (source, *constants, *where, *activation))
        else:
            terms: tuple[Any, ...] = (source, other, *constants, *where, "add", 1.0, None, [], None)
            call = module.graph.call_function(onednn._convolution_pointwise.binary, terms)
        _replace(chain, call)


def _folded(
    module: fx.GraphModule, chain: list[fx.Node], weights: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Weights and bias with the batch norm behind the convolution in them; joins it to the chain."""
    user = _only_user(chain)
    if user is None or user.target != aten.batch_norm.default or user.args[0] is not chain[-1]:
        return weights, bias
    gain, shift, mean, variance = (_value(module, argument) for argument in user.args[1:5])
    training, epsilon = user.args[5], user.args[7]
    if training or mean is None or variance is None:
        return weights, bias
    scale = (variance.double() + epsilon).rsqrt()
    if gain is not None:
        scale = scale * gain.double()
    offset = scale * ((0.0 if bias is None else bias.double()) - mean.double())
    if shift is not None:
        offset = offset + shift.double()
    chain.append(user)
    return (weights.double() * scale[:, None, None, None]).to(weights.dtype), offset.to(weights.dtype)


def _padded(source: fx.Node, weights: Tensor, padding: list[int], dilation: list[int]) -> tuple[fx.Node, Tensor, list[int]]:
    """Takes zero padding before a convolution into it: uneven padding by kernels with rows or columns of zeros."""
    operands: tuple[Any, ...] = source.args
    if source.target != aten.pad.default or dilation != [1, 1] or len(operands[1]) != 4:
        return source, weights, padding
    if (operands[2:3] or ("constant",)) != ("constant",) or any(operands[3:4]):
        return source, weights, padding
    inner = [padding[1]] * 2 + [padding[0]] * 2
    left, right, top, bottom = (pad + inside for pad, inside in zip(operands[1], inner, strict=True))
    if max(abs(right - left), abs(bottom - top)) > 1 or min(left, right, top, bottom) < 0:
        return source, weights, padding
    extra = (max(0, right - left), max(0, left - right), max(0, bottom - top), max(0, top - bottom))
    return operands[0], nn.functional.pad(weights, extra), [max(top, bottom), max(left, right)]


def _activation(chain: list[fx.Node]) -> tuple[str, list[float], str]:
    """The activation that alone uses the chain's end, as oneDNN's name, scalars and algorithm; joins it to the chain."""
    user = _only_user(chain)
    target = None if user is None else ACTIVATIONS.get(user.target)
    if user is None or target is None:
        return "none", [], ""
    chain.append(user)
    operands: tuple[Any, ...] = user.args
    scalars = [float(bound) for bound in (*operands[1:], *(-1.0, 1.0)[len(operands) - 1:])] if target == "hardtanh" else []
    return target, scalars, str(user.kwargs.get("approximate", "none")) if target == "gelu" else ""


def _residual(chain: list[fx.Node]) -> fx.Node | None:
    """The other term of the sum that alone uses the chain's end, if it has the same shape; joins the sum to the chain."""
    user, node = _only_user(chain), chain[-1]
    if user is None or user.target != aten.add.Tensor or user.kwargs:
        return None
    other = user.args[1] if user.args[0] is node else user.args[0]
    if not isinstance(other, fx.Node) or other is node or other.meta["val"].shape != node.meta["val"].shape:
        return None
    chain.append(user)
    return other


def _only_user(chain: list[fx.Node]) -> fx.Node | None:
    users = chain[-1].users
    return next(iter(users)) if len(users) == 1 else None


def _value(module: fx.GraphModule, node: Any) -> Any:
    """The tensor that a weight's node stands for; None for an argument that is not given."""
    return None if node is None else attrgetter(node.target)(module).detach()


def _constant(module: fx.GraphModule, tensor: Tensor) -> fx.Node:
    name = f"packed_{len(module._buffers)}"
    module.register_buffer(name, tensor, persistent=False)
    return module.graph.get_attr(name)


def _replace(chain: list[fx.Node], call: fx.Node) -> None:
    """Puts `call` in the place of a chain of nodes, each the only user of the one before."""
    call.meta = chain[-1].meta
    chain[-1].replace_all_uses_with(call)
    for node in reversed(chain):
        node.graph.erase_node(node)


def _drop_unused_weights(module: fx.GraphModule) -> None:
    """Frees the weights whose packed copy took their place."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for path, _ in [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]:
        if path not in used:
            owner, _, name = path.rpartition(".")
            delattr(attrgetter(owner)(module) if owner else module, name)
