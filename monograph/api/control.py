"""Loops and branches on values: scan, while_loop, cond, map, associative_scan.

Eagerly they are Python loops over tensors, with the tape and vmap as for any other code. While a
function is captured each becomes one operation that holds the captured body (transform/control.py),
so that a loop of any length compiles once, and runs without Python.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ..core.modes import modes
from ..core.shape import is_number
from ..ir.graph import Graph, Value
from ..ir.op import Aval
from ..ir.region import Region
from ..ops.align import FUNCTIONS
from ..ops.basic import Where
from ..ops.movement import Copy, Expand, Flip
from ..ops.shaping import slice_axis
from ..tensor import Tensor
from ..transform.control import Cond, While, aval_of, run_scan
from ..transform.region import Body, NotCapturable, trace_body
from ..transform.vmap import Batched
from .creation import as_tensor

__all__ = ["associative_scan", "cond", "map", "scan", "while_loop"]

log = logging.getLogger("monograph.control")


def _callable(name: str, what: str, f: Any) -> None:
    if not callable(f):
        raise ArgumentTypeError(f"{name}: {what} must be a function, got {type(f).__name__}")


def _tensors(name: str, what: str, tree: Any) -> tuple[list[Tensor], Any]:
    """(leaves as tensors, structure); numbers and arrays become tensors."""
    leaves, treedef = pytree.flatten(tree)
    made = []
    for x in leaves:
        if not isinstance(x, Tensor):
            if not (is_number(x) or isinstance(x, (bool, np.ndarray))):
                raise ArgumentTypeError(
                    f"{name}: {what} must hold tensors and numbers, got {type(x).__name__}"
                )
            x = as_tensor(x)
        made.append(x)
    return made, treedef


def _same_carry(name: str, before: list[Tensor], treedef: Any, result: Any) -> list[Tensor]:
    """The leaves of a carry that the function returned; it must be as it was."""
    after, result_def = _tensors(name, "the carry", result)
    if result_def != treedef:
        raise ArgumentError(
            f"{name}: the function must return a carry of the same structure, {treedef}, got "
            f"{result_def}"
        )
    for i, (x, y) in enumerate(zip(before, after)):
        if aval_of(x) != aval_of(y):
            error = DTypeError if x.dtype is not y.dtype else ShapeError
            raise error(
                f"{name}: the carry must keep its shapes and dtypes; leaf {i} is {aval_of(x)!r} "
                f"before and {aval_of(y)!r} after an iteration",
                hint="convert the initial value, or the function's result, as with .to(dtype)",
            )
    return after


def _pair(name: str, result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise ArgumentTypeError(
            f"{name}: the function must return (carry, y), got {type(result).__name__}"
        )
    return result


def _length(xs: Sequence[Tensor], length: Any) -> int:
    sizes = set()
    for x in xs:
        if not x.ndim:
            raise ShapeError("scan: xs must have an axis to scan along, got a 0-d tensor")
        sizes.add(x.shape[0])
    if length is not None:
        if isinstance(length, bool) or not isinstance(length, (int, np.integer)) or length < 0:
            raise ArgumentError(f"scan: length must be an int of at least 0, got {length!r}")
        sizes.add(int(length))
    if not sizes:
        raise ArgumentError("scan: needs xs or a length")
    if len(sizes) > 1:
        raise ShapeError(f"scan: the leading sizes of xs (and length) differ: {sorted(sizes)}")
    return sizes.pop()


def scan(
    f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """Run carry, y = f(carry, x) along the first axis of xs; returns (last carry, stacked ys).

    f        a function of a carry and an element; what it reads besides may be any tensor
    init     the first carry: a tensor, a number, or a tree of them, whose shapes and dtypes stay
    xs       a tensor or a tree of tensors with one leading size; None: f gets None
    length   how often, where xs is None (else it must agree with xs)
    reverse  from the last element to the first; ys stay in the order of xs
    returns  the last carry, and the ys (a tree, or None) stacked along a new first axis

    In a captured function this is one operation: its body compiles once for any length, and runs
    as a native loop. All derivatives work; a gradient keeps what each iteration needs, and adds up
    the gradients of weights in one product over all iterations. Same meaning as jax.lax.scan.

    >>> scan(lambda total, x: (total + x, total * x), tensor(0.0), tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([0., 2., 9.]))
    """
    _callable("scan", "f", f)
    carry, carry_def = _tensors("scan", "init", init)
    elements, xs_def = _tensors("scan", "xs", xs)
    count = _length(elements, length)
    if modes.trace is not None and count > 0:
        try:
            return _captured_scan(f, carry, carry_def, elements, xs_def, count, reverse)
        except NotCapturable as error:
            log.info("%s; the loop is unrolled", error.message)
    return _python_scan(f, carry, carry_def, elements, xs_def, count, reverse)


def _python_scan(
    f: Callable, carry: list[Tensor], carry_def: Any, xs: list[Tensor], xs_def: Any, length: int,
    reverse: bool,
) -> tuple[Any, Any]:  # fmt: skip
    if not length:
        return carry_def.unflatten(carry), _no_ys(f, carry, carry_def, xs, xs_def)
    made: list[Any] = [None] * length
    parts = [x.unbind(0) for x in xs]
    y_def: Any = None
    for t in reversed(range(length)) if reverse else range(length):
        result = f(carry_def.unflatten(carry), xs_def.unflatten([p[t] for p in parts]))
        after, y = _pair("scan", result)
        carry = _same_carry("scan", carry, carry_def, after)
        made[t], y_def = _tensors("scan", "y", y)
    ys = [FUNCTIONS["stack"](list(each)) for each in zip(*made)]
    return carry_def.unflatten(carry), y_def.unflatten(ys)


def _no_ys(f: Callable, carry: list[Tensor], carry_def: Any, xs: list[Tensor], xs_def: Any) -> Any:
    """The ys of no iteration: empty tensors of what f would give."""
    found: list[Any] = []

    def once(*args: Tensor) -> list[Tensor]:
        c, x = args[: len(carry)], args[len(carry) :]
        _, y = _pair("scan", f(carry_def.unflatten(c), xs_def.unflatten(x)))
        leaves, treedef = _tensors("scan", "y", y)
        found.append(treedef)
        return leaves

    avals = [aval_of(c) for c in carry]
    avals += [Aval(tuple(x.shape[1:]), x.dtype) for x in xs]
    outputs = trace_body("scan", once, avals).graph.outputs
    empty = [np.zeros((0, *v.shape), v.dtype.numpy) for v in outputs]
    return found[0].unflatten([as_tensor(a) for a in empty])


def _captured_scan(
    f: Callable, carry: list[Tensor], carry_def: Any, xs: list[Tensor], xs_def: Any, length: int,
    reverse: bool,
) -> tuple[Any, Any]:  # fmt: skip
    y_defs: list[Any] = []

    def once(*args: Tensor) -> list[Tensor]:
        before, x = list(args[: len(carry)]), args[len(carry) :]
        after, y = _pair("scan", f(carry_def.unflatten(before), xs_def.unflatten(x)))
        kept = _same_carry("scan", before, carry_def, after)
        ys, y_def = _tensors("scan", "y", y)
        y_defs.append(y_def)
        return [*kept, *ys]

    avals = [aval_of(c) for c in carry]
    avals += [Aval(tuple(x.shape[1:]), x.dtype) for x in xs]
    body = trace_body("scan", once, avals)
    graph, consts = _arranged(body)
    written = [body.captured[i] for i, _ in body.written]
    inputs = [*consts, *(Copy()(w) for w in written), *carry, *xs]
    carries = len(written) + len(carry)
    made = run_scan(Region(graph), length, len(consts), carries, reverse, inputs)
    for tensor, value in zip(written, made):
        tensor._write(value, "scan")
    after = made[len(written) : carries]
    return carry_def.unflatten(after), y_defs[0].unflatten(made[carries:])


def _arranged(body: Body) -> tuple[Graph, list[Tensor]]:
    """The body's graph with inputs (consts, written tensors, arguments) and outputs (written
    tensors, results), and the tensors that are consts."""
    graph = body.graph
    count = len(graph.inputs) - len(body.captured)
    arguments, captured = graph.inputs[:count], graph.inputs[count:]
    written = {i for i, _ in body.written}
    consts = [i for i in range(len(captured)) if i not in written]
    graph.inputs = [captured[i] for i in consts] + [captured[i] for i, _ in body.written]
    graph.inputs += arguments
    graph.outputs = [v for _, v in body.written] + graph.outputs
    return graph, [body.captured[i] for i in consts]


# Bodies of `layer_scan`: (function, structures, avals) -> region and structure of y.
_layers: dict[Any, tuple[Region, Any]] = {}
_MOST_LAYERS = 256


def layer_scan(
    f: Callable, consts: Any, init: Any, xs: Any, reverse: bool = False
) -> tuple[Any, Any]:
    """`scan` of carry, y = f(consts, carry, x) that runs compiled eagerly too.

    f must be a function of its arguments alone, and the same object at each call: it is captured
    once for all calls with these shapes. For layers whose loop is part of the library.
    """
    parts = [_tensors("scan", what, t) for what, t in (
        ("consts", consts), ("init", init), ("xs", xs)
    )]  # fmt: skip
    (fixed, fixed_def), (carry, carry_def), (elements, xs_def) = parts
    length = _length(elements, None)
    if not length:
        return scan(lambda c, x: f(consts, c, x), init, xs, reverse=reverse)
    avals = [aval_of(t) for t in (*fixed, *carry)]
    avals += [Aval(tuple(x.shape[1:]), x.dtype) for x in elements]
    key = (f, fixed_def, carry_def, xs_def, tuple(avals), modes.autocast)
    known = _layers.get(key)
    if known is None:
        y_defs: list[Any] = []

        def once(*args: Tensor) -> list[Tensor]:
            left = iter(args)
            a = fixed_def.unflatten([next(left) for _ in fixed])
            before = [next(left) for _ in carry]
            after, y = _pair("scan", f(a, carry_def.unflatten(before), xs_def.unflatten(left)))
            kept = _same_carry("scan", before, carry_def, after)
            ys, y_def = _tensors("scan", "y", y)
            y_defs.append(y_def)
            return [*kept, *ys]

        body = trace_body("scan", once, avals)
        assert not body.captured, f"{f.__name__} reads more than its arguments"
        if len(_layers) >= _MOST_LAYERS:
            _layers.clear()
        known = _layers[key] = Region(body.graph), y_defs[0]
    region, y_def = known
    inputs = [*fixed, *carry, *elements]
    made = run_scan(region, length, len(fixed), len(carry), reverse, inputs)
    return carry_def.unflatten(made[: len(carry)]), y_def.unflatten(made[len(carry) :])


def map(f: Callable, xs: Any) -> Any:
    """f of each element along the first axis of xs, one after another, stacked.

    As `vmap(f)(xs)`, but one element at a time: for less memory, and for functions that vmap cannot
    batch. Same meaning as jax.lax.map.

    >>> map(lambda x: x * x, tensor([1.0, 2.0, 3.0]))
    tensor([1., 4., 9.])
    """
    _callable("map", "f", f)
    return scan(lambda carry, x: (carry, f(x)), (), xs)[1]


def _predicate(name: str, what: str, pred: Any) -> Tensor:
    pred = as_tensor(pred)
    if pred.ndim:
        raise ShapeError(f"{name}: {what} must be a single bool, got shape {tuple(pred.shape)}")
    return pred if pred.dtype is dt.bool_ else pred != 0


def cond(pred: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """true_fn(*operands) if pred else false_fn(*operands).

    pred     a bool, or a tensor with a single element
    returns  what the chosen function returns: tensors, or a tree of them. In a captured function
             both must give the same structure, shapes and dtypes

    Eagerly only the chosen function runs. In a captured function both are captured and one of them
    runs at each call. Where vmap makes pred differ along a batch both run and each example takes
    its own. Gradients run the chosen branch again. Same meaning as jax.lax.cond and torch.cond.

    >>> cond(tensor(3.0) > 2, lambda x: x * 2, lambda x: -x, tensor(5.0))
    tensor(10.)
    """
    for what, f in (("true_fn", true_fn), ("false_fn", false_fn)):
        _callable("cond", what, f)
    if isinstance(pred, (bool, np.bool_)):
        return true_fn(*operands) if pred else false_fn(*operands)
    pred = _predicate("cond", "pred", pred)
    payload = pred._value()
    if modes.trace is None and type(payload) is not Batched:
        return true_fn(*operands) if pred.item() else false_fn(*operands)
    if modes.trace is None:
        return _both(pred, true_fn, false_fn, operands)
    leaves, treedef = pytree.flatten(operands)
    places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
    given = [leaves[i] for i in places]
    trees: list[Any] = []
    bodies = []
    for f in (true_fn, false_fn):

        def once(*args: Tensor, f: Callable = f) -> list[Tensor]:
            inside = list(leaves)
            for i, x in zip(places, args):
                inside[i] = x
            outs, out_def = _tensors("cond", "the result", f(*treedef.unflatten(inside)))
            trees.append(out_def)
            return outs

        bodies.append(trace_body("cond", once, [aval_of(x) for x in given]))
    if trees[0] != trees[1]:
        raise ArgumentError(
            f"cond: the functions must return the same structure, got {trees[0]} and {trees[1]}"
        )
    made, written = _run_cond(pred, bodies, given)
    for tensor, value in zip(written, made):
        tensor._write(value, "cond")
    return trees[0].unflatten(made[len(written) :])


def _both(pred: Tensor, true_fn: Callable, false_fn: Callable, operands: tuple) -> Any:
    """Both branches, and for each example its own: pred differs along a batch."""
    (xs, x_def), (ys, y_def) = (
        _tensors("cond", "the result", f(*operands)) for f in (true_fn, false_fn)
    )
    if x_def != y_def:
        raise ArgumentError(
            f"cond: the functions must return the same structure, got {x_def} and {y_def}"
        )
    _same_results(xs, ys)
    return x_def.unflatten([_where(pred, x, y) for x, y in zip(xs, ys)])


def _where(pred: Tensor, x: Tensor, y: Tensor) -> Tensor:
    mask = Expand(tuple(x.shape), tuple(range(x.ndim)))(pred) if x.ndim else pred
    return Where()(mask, x, y)


def _same_results(xs: Sequence[Any], ys: Sequence[Any]) -> None:
    for i, (x, y) in enumerate(zip(xs, ys)):
        if aval_of(x) != aval_of(y):
            error = DTypeError if x.dtype is not y.dtype else ShapeError
            raise error(
                f"cond: result {i} is {aval_of(x)!r} from true_fn and {aval_of(y)!r} from false_fn"
            )


def _run_cond(
    pred: Tensor, bodies: list[Body], given: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """(results, tensors that the first of them are to be written into)."""
    known: dict[int, Tensor] = {}
    written: dict[int, Tensor] = {}
    for body in bodies:
        known.update({id(t): t for t in body.captured})
        written.update({id(body.captured[i]): body.captured[i] for i, _ in body.written})
    count = len(given)
    regions = []
    for body in bodies:
        graph = body.graph
        arguments = graph.inputs[:count]
        own = {id(t): v for t, v in zip(body.captured, graph.inputs[count:])}
        inputs = [own.get(key) or Value(aval_of(t)) for key, t in known.items()]
        graph.inputs = arguments + inputs
        ends = {id(body.captured[i]): v for i, v in body.written}
        by_id = dict(zip(known, inputs))
        graph.outputs = [ends.get(key, by_id[key]) for key in written] + graph.outputs
        regions.append(Region(graph))
    _same_results(*([v for v in r.graph.outputs] for r in regions))
    operands = [*given, *(Copy()(t) if key in written else t for key, t in known.items())]
    if not regions[0].graph.outputs:
        return [], []
    made = Cond(*regions)(pred, *operands)
    return list(made) if isinstance(made, tuple) else [made], list(written.values())


def while_loop(cond_fn: Callable, body_fn: Callable, init: Any) -> Any:
    """carry = init; while cond_fn(carry): carry = body_fn(carry); return carry.

    init     a tensor, a number, or a tree of them, whose shapes and dtypes stay the same
    cond_fn  gives a single bool (or a tensor of one element)

    In a captured function this is one operation, a native loop. Forward mode (mg.func.jvp, jacfwd)
    works everywhere. Reverse mode works eagerly; in a captured function it is a GradError, because
    the number of iterations is not known: use `scan`. With vmap the loop runs until no example goes
    on. Same meaning as jax.lax.while_loop.

    >>> while_loop(lambda x: x < 100, lambda x: x * 3, tensor(1.0))
    tensor(243.)
    """
    _callable("while_loop", "cond_fn", cond_fn)
    _callable("while_loop", "body_fn", body_fn)
    carry, treedef = _tensors("while_loop", "init", init)
    if not carry:
        raise ArgumentError("while_loop: init must hold at least one tensor")
    if modes.trace is not None:
        return _captured_while(cond_fn, body_fn, carry, treedef)
    while True:
        pred = _predicate("while_loop", "the condition", cond_fn(treedef.unflatten(carry)))
        batched = type(pred._value()) is Batched
        if not (_any_example(pred) if batched else pred.item()):
            return treedef.unflatten(carry)
        made = _same_carry("while_loop", carry, treedef, body_fn(treedef.unflatten(carry)))
        carry = [_where(pred, m, c) for m, c in zip(made, carry)] if batched else made


def _any_example(pred: Tensor) -> bool:
    """Whether the condition holds for any example of the batches around."""
    value: Any = pred
    while type(value._value()) is Batched:
        value = value._value().value
    return bool(np.any(value._value()))


def _captured_while(cond_fn: Callable, body_fn: Callable, carry: list[Tensor], treedef: Any) -> Any:
    def test(values: Sequence[Tensor]) -> Tensor:
        return _predicate("while_loop", "the condition", cond_fn(treedef.unflatten(values)))

    def once(*args: Tensor) -> list[Tensor]:
        made = _same_carry("while_loop", list(args), treedef, body_fn(treedef.unflatten(args)))
        return [test(made), *made]

    body = trace_body("while_loop", once, [aval_of(c) for c in carry])
    graph, consts = _arranged(body)
    # The condition comes first among the results, before the written tensors.
    count = len(body.written)
    outputs = graph.outputs
    graph.outputs = [outputs[count], *outputs[:count], *outputs[count + 1 :]]
    written = [body.captured[i] for i, _ in body.written]
    first = test(carry)
    op = While(Region(graph), len(consts))
    made = op(*consts, first, *(Copy()(w) for w in written), *carry)
    made = list(made) if isinstance(made, tuple) else [made]
    for tensor, value in zip(written, made):
        tensor._write(value, "while_loop")
    return treedef.unflatten(made[count:])


def associative_scan(fn: Callable, elems: Any, dim: int = 0, reverse: bool = False) -> Any:
    """All prefix results of an associative function along `dim`, in a logarithmic number of steps.

    fn       takes two trees like elems (any number of elements along `dim`) and combines them
    elems    a tensor or a tree of tensors with one size along `dim`
    returns  a tree like elems: element t is fn(... fn(e[0], e[1]) ..., e[t])
    reverse  suffix results instead, from the last element

    fn must be associative, else the result depends on the order. Same meaning as
    jax.lax.associative_scan. Source: Blelloch, "Prefix sums and their applications", 1990.

    >>> associative_scan(lambda x, y: x * y, tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([ 1.,  2.,  6., 24.])
    """
    _callable("associative_scan", "fn", fn)
    leaves, treedef = _tensors("associative_scan", "elems", elems)
    if not leaves:
        raise ArgumentError("associative_scan: elems must hold at least one tensor")
    axes = []
    for x in leaves:
        if not -x.ndim <= dim < x.ndim:
            raise ArgumentError(
                f"associative_scan: dim {dim} is out of range for shape {tuple(x.shape)}"
            )
        axes.append(dim % x.ndim)
    if len({x.shape[a] for x, a in zip(leaves, axes)}) > 1:
        sizes = [tuple(x.shape) for x in leaves]
        raise ShapeError(f"associative_scan: the sizes along dim {dim} differ: {sizes}")

    def combine(xs: list[Tensor], ys: list[Tensor]) -> list[Tensor]:
        result = fn(treedef.unflatten(xs), treedef.unflatten(ys))
        made, made_def = _tensors("associative_scan", "the result", result)
        if made_def != treedef:
            raise ArgumentError(
                f"associative_scan: fn must return a tree like elems, {treedef}, got {made_def}"
            )
        return made

    def every(xs: list[Tensor], start: int, stop: int, step: int) -> list[Tensor]:
        return [_strided(x, a, start, stop, step) for x, a in zip(xs, axes)]

    def prefixes(xs: list[Tensor]) -> list[Tensor]:
        n = xs[0].shape[axes[0]]
        if n < 2:
            return xs
        pairs = combine(every(xs, 0, n - 1, 2), every(xs, 1, n, 2))
        odd = prefixes(pairs)  # the results at 1, 3, 5, ...
        m = odd[0].shape[axes[0]]
        before = odd if n % 2 else every(odd, 0, m - 1, 1)
        even = every(xs, 0, 1, 1)
        if n > 2:
            later = combine(before, every(xs, 2, n, 2))
            even = [FUNCTIONS["cat"]([e, r], a) for e, r, a in zip(even, later, axes)]
        return [_interleaved(e, o, a) for e, o, a in zip(even, odd, axes)]

    flipped = [Flip((a,))(x) if reverse else x for x, a in zip(leaves, axes)]
    made = prefixes(flipped)
    return treedef.unflatten([Flip((a,))(x) if reverse else x for x, a in zip(made, axes)])


def _strided(x: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    index = [slice(None)] * axis + [slice(start, stop, step)]
    return x[tuple(index)]


def _interleaved(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    """even[0], odd[0], even[1], ... along `axis`; even may have one element more."""
    n = odd.shape[axis]
    first = slice_axis(even, axis, 0, n)
    both = FUNCTIONS["stack"]([first, odd], axis + 1)
    shape = (*odd.shape[:axis], 2 * n, *odd.shape[axis + 1 :])
    joined = both.reshape(shape)
    if even.shape[axis] == n:
        return joined
    return FUNCTIONS["cat"]([joined, slice_axis(even, axis, n, n + 1)], axis)
