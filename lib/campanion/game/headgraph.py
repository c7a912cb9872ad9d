"""The part of a network after one layer, as a torch.fx graph with modules of its own.

Every call in it has its own module, in eval mode, without hooks and without in-place operation; the parameters are
shared with the network, so nothing is copied in memory and a head always computes what the network computes.
Functional ReLU, pooling, flattening and unit norms become modules, so that heads read alike however they were written
(and so that DeepLIFT, which works by module hooks, sees them all).
"""

from __future__ import annotations

import copy
import operator

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from campanion.game.unitnorm import UnitNorm
from campanion.inference import Tracer, eval_mode


class SpatialMean(nn.Module):
    """Mean over the two spatial dimensions: [N, K, h, w] -> [N, K]."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean over h and w."""
        return x.mean((2, 3))


class _Tracer(Tracer):
    """Traces what follows the target layer in full, and what precedes it as opaque calls (they are cut off)."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.passed = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name == self.target:
            self.passed = True
            return True
        if self.target.startswith(module_qualified_name + "."):
            return False
        return super().is_leaf_module(m, module_qualified_name) if self.passed else True


def cut(model: nn.Module, name: str) -> fx.GraphModule | None:
    """The graph from layer ``name``'s output to the network's output.

    None when torch.fx cannot trace the network, or when the output needs more than this layer (a connection that goes
    around it).
    """
    try:
        with eval_mode(model):
            graph = _Tracer(name).trace(model)
    except Exception:  # fx gives up with many kinds of error on data-dependent control flow
        return None
    start = [node for node in graph.nodes if node.op == "call_module" and node.target == name]
    if len(start) != 1:
        return None
    head, copied, modules = fx.Graph(), {}, {}
    copied[start[0]] = head.placeholder("activations")
    for node in graph.nodes:
        if node in copied or node.op in ("placeholder",):
            continue
        inputs = node.all_input_nodes
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0] not in copied:
                return None
            head.output(copied[node.args[0]])
        elif node.op == "get_attr" or (inputs and any(n in copied and copied[n].op != "get_attr" for n in inputs)):
            step = _as_module(node)
            if any(n not in copied for n in (inputs if step is None else inputs[:1])):
                return None
            copied[node] = _copy_node(model, head, node, step, copied, modules)
    if any(_is_unread(node) for node in head.nodes):
        return None
    module = fx.GraphModule(modules, head).eval()
    if module.graph.eliminate_dead_code():  # sizes that a replaced view() asked for
        module.recompile()
    return module


def _copy_node(
    model: nn.Module, head: fx.Graph, node: fx.Node, step: nn.Module | None, copied: dict, modules: dict
) -> fx.Node:
    """Copy ``node`` into ``head``; a functional call becomes ``step``, a module that does the same, if there is one."""
    if node.op == "get_attr":
        modules[str(node.target)] = operator.attrgetter(str(node.target))(model)
        return head.node_copy(node)
    name = f"step_{len(modules)}"
    if step is not None:
        modules[name] = step
        return head.call_module(name, (copied[node.all_input_nodes[0]],))
    new = head.node_copy(node, lambda n: copied[n])
    if node.op == "call_module":
        modules[name], new.target = _own_module(model.get_submodule(node.target)), name
    return new


def _is_unread(node: fx.Node) -> bool:
    """A result that nobody reads, sizes aside: most likely an in-place change (``x.relu_()``) that must not be lost."""
    about_size = node.target in ("size", getattr, operator.getitem)
    return node.op.startswith("call") and not node.users and not about_size


def _own_module(module: nn.Module) -> nn.Module:
    """A copy in eval mode that shares the tensors, with neither hooks nor in-place operation.

    Not ``copy.deepcopy``, which would also copy whatever a user's hook holds: often the whole network.
    """
    own = module.__new__(type(module))
    own.__dict__ = {key: type(v)() if key.endswith("_hooks") else v for key, v in module.__dict__.items()}
    own._modules = {name: child if child is None else _own_module(child) for name, child in module._modules.items()}
    own.training = False
    if getattr(own, "inplace", False):
        own.inplace = False
    return own


class Rows(nn.Flatten):
    """``x.view(-1, width)`` or ``x.view(batch, width)``: a flattening where ``width`` is all that one image has."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """Rows of ``width`` numbers."""
        return x.reshape(-1, self.width)


def _is_batch_size(size: object) -> bool:
    """Whether ``size`` is the node of x.size(0), x.shape[0] or x.size()[0]."""
    if not isinstance(size, fx.Node):
        return False
    if size.op == "call_method" and size.target == "size":
        return size.args[1:] == (0,)
    of = size.args[0] if size.target is operator.getitem and size.args[1] == 0 else None
    return isinstance(of, fx.Node) and (of.target == "size" or (of.target is getattr and of.args[1] == "shape"))


def _as_module(node: fx.Node) -> nn.Module | None:
    """The module that does what a functional call does, or None to leave the call as it is."""
    target, args, kwargs = node.target, node.args, node.kwargs
    if node.op not in ("call_function", "call_method"):
        return None
    if target in (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"):
        return nn.ReLU()
    if target is F.adaptive_avg_pool2d:
        size = args[1] if len(args) > 1 else kwargs.get("output_size")
        return None if isinstance(size, fx.Node) else nn.AdaptiveAvgPool2d(size)
    if target in (torch.flatten, "flatten"):
        start = args[1] if len(args) > 1 else kwargs.get("start_dim", 0)
        end = args[2] if len(args) > 2 else kwargs.get("end_dim", -1)
        return nn.Flatten(1) if (start, end) == (1, -1) else None
    if target in ("view", "reshape", torch.reshape):
        sizes = args[1:] if len(args) != 2 or not isinstance(args[1], (tuple, list)) else args[1]
        rows = len(sizes) == 2 and (sizes[0] == -1 or _is_batch_size(sizes[0])) and isinstance(sizes[1], int)
        return None if not rows else nn.Flatten(1) if sizes[1] == -1 else Rows(sizes[1])
    if target in (torch.mean, "mean"):
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        flat = sorted(d % 4 for d in dims) if isinstance(dims, (tuple, list)) else None
        return SpatialMean() if flat == [2, 3] and not keep else None
    if target is F.normalize and (kwargs["p"], kwargs["dim"], kwargs["out"]) == (2, 1, None):
        return UnitNorm(kwargs["eps"])
    if target is F.dropout and not kwargs.get("training", args[2] if len(args) > 2 else True):
        return nn.Identity()
    return None


def flatten_by_function(head: fx.GraphModule) -> fx.GraphModule:
    """``head`` (sharing its modules) with flattening and averaging as function calls, as captum's LRP wants them."""
    graph = copy.deepcopy(head.graph)
    for node in list(graph.nodes):
        module = head.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, (nn.Flatten, SpatialMean, nn.Identity)):
            with graph.inserting_before(node):
                new = node.args[0]
                if isinstance(module, Rows):
                    new = graph.call_method("reshape", (new, -1, module.width))
                elif isinstance(module, nn.Flatten):
                    new = graph.call_function(torch.flatten, (new, module.start_dim, module.end_dim))
                elif isinstance(module, SpatialMean):
                    new = graph.call_method("mean", (new, (2, 3)))
            node.replace_all_uses_with(new)
            graph.erase_node(node)
    return fx.GraphModule(head, graph)
