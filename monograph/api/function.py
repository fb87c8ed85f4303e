"""`monograph.autograd.Function`: operations with a gradient of their own.

`apply` runs the user's `forward` off the tape and leaves a node that calls `backward`. Inside vmap
the same happens once more one level further out, with functions that wrap and unwrap the batch
axis, so that both tapes (inside and outside of the vmap) know the operation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core.dtype import BY_NUMPY, DType
from ..core.errors import ArgumentTypeError, GradError, ShapeError
from ..core.modes import modes, no_grad
from ..core.tracing import refused
from ..ir.op import Full, Op
from ..ops.align import cast
from ..ops.batching import batched as expand_batch
from ..ops.batching import move_axis
from ..ops.movement import Reshape, Sum
from ..tensor import Tensor, wrap
from ..transform import tape
from ..transform.vmap import Batched, Level, any_requires_grad, entered, level_of, unwrap

__all__ = ["Function", "Context", "once_differentiable"]


class Context:
    """What `forward` keeps for `backward`: tensors by save_for_backward, the rest as attributes.

    needs_input_grad  for each argument of apply, whether its gradient is wanted
    """

    needs_input_grad: tuple[bool, ...] = ()
    _materialize = True

    def __init__(self) -> None:
        self._given: tuple[Any, ...] = ()
        self._entries: list[tuple[str, Any]] = []
        self._now: list[Any] | None = None
        self._non_differentiable: list[Tensor] = []
        self._dirty: list[Tensor] = []

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward, where `saved_tensors` gives them back. Call it once."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise ArgumentTypeError(
                    f"save_for_backward: takes tensors or None, got {type(t).__name__}",
                    hint="keep other values as attributes of ctx",
                )
        self._given = tensors

    save_for_forward = save_for_backward

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors given to save_for_backward; inputs and outputs are on the tape."""
        return self._given if self._now is None else tuple(self._now)

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable += outputs

    def mark_dirty(self, *inputs: Tensor) -> None:
        """Say which inputs forward changed in place; it must return them too."""
        self._dirty += inputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (default) or None for outputs that nothing depends on."""
        self._materialize = bool(value)

    def _note_saved(self, args: Sequence[Any], outs: Sequence[Any]) -> None:
        """Remember inputs and outputs among the saved tensors by position: tapes have their own."""
        self._entries = []
        for t in self._given:
            place: tuple[str, Any] = ("value", t)
            for kind, known in (("input", args), ("output", outs)):
                for k, x in enumerate(known):
                    if x is t and t is not None and place[0] == "value":
                        place = (kind, k)
            self._entries.append(place)
        self._given = ()


FunctionCtx = Context  # PyTorch's name


class Function:
    """Base of operations with a gradient of their own; use them by `Name.apply(*args)`.

        class Exp(mg.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                y = x.exp()
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, g):
                (y,) = ctx.saved_tensors
                return g * y

    Or forward(*args) with setup_context(ctx, inputs, output). backward returns one gradient (or
    None) for each argument of forward. It is differentiable itself, works inside vmap (forward and
    backward then run on batched tensors) and inside captures.
    """

    def __init__(self) -> None:
        raise ArgumentTypeError(
            f"{type(self).__name__}: functions are not instantiated",
            hint=f"call {type(self).__name__}.apply(...)",
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; gets ctx first unless setup_context is defined."""
        raise NotImplementedError("forward is not defined")

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple, output: Any) -> Any:
        """Keep what backward needs (then forward gets no ctx)."""
        raise NotImplementedError("setup_context is not defined")

    @staticmethod
    def backward(ctx: Context, *grad_outputs: Any) -> Any:
        """Gradients of the arguments from those of the outputs."""
        raise NotImplementedError("backward is not defined")

    vjp = backward

    # vmap(info, in_dims, *args) -> (outputs, out_dims): a static rule of the user's own; args have
    # the batch axes in_dims; info has batch_size and randomness. Needs setup_context.
    vmap: Any = None
    generate_vmap_rule = True

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation."""
        outs, single = _apply(cls, args)
        return outs[0] if single else tuple(outs)


def _run(fn: Any, args: Sequence[Any], needs: tuple[bool, ...]) -> tuple[list[Any], bool, Context]:
    """Forward off the tape: (outputs, whether there was a single one, context)."""
    ctx = Context()
    ctx.needs_input_grad = needs
    separate = fn.setup_context is not Function.setup_context
    with no_grad():
        result = fn.forward(*args) if separate else fn.forward(ctx, *args)
        if separate:
            fn.setup_context(ctx, tuple(args), result)
    single = not isinstance(result, tuple)
    outs = [result] if single else list(result)
    if not any(isinstance(o, Tensor) for o in outs):
        raise ArgumentTypeError(
            f"{_name(fn)}: forward must return a tensor or a tuple with tensors, got "
            f"{type(result).__name__}"
        )
    ctx._note_saved(args, outs)
    return outs, single, ctx


def _name(fn: Any) -> str:
    return fn.__name__


def _apply(fn: Any, args: tuple) -> tuple[list[Any], bool]:
    refused(f"the autograd.Function {_name(fn)} is applied")
    level: Level | None = None
    for a in args:
        other = level_of(a)
        if other is not None and (level is None or other.number > level.number):
            level = other
    if level is None:
        needs = tuple(isinstance(a, Tensor) and any_requires_grad(a) for a in args)
        outs, single, ctx = _run(fn, args, needs)
        raw = list(outs)
    else:
        batched = _Batched(fn, level, args)
        if getattr(fn, "vmap", None) is not None:
            inner, single, ctx = batched.by_rule()
        else:
            inner, single = _apply(batched, tuple(batched.inner))
            ctx = batched.ctx
        outs = [
            wrap(Batched(o, d, level)) if isinstance(o, Tensor) else o
            for o, d in zip(inner, batched.out_dims)
        ]
        raw = batched.raw
    return _record(fn, level, args, outs, raw, ctx), single


def _record(
    fn: Any, level: Level | None, args: tuple, outs: list[Any], raw: list[Any], ctx: Context
) -> list[Any]:
    """The outputs as new tensors, on the tape of this level if an argument is."""
    dirty = [any(o is d for d in ctx._dirty) for o in raw]
    recording = modes.grad and any(
        isinstance(a, Tensor) and a.requires_grad and level_of(a) is level for a in args
    )
    made: list[Any] = []
    for o, changed in zip(outs, dirty):
        if not isinstance(o, Tensor):
            made.append(o)
        elif changed and level is None:
            if recording and (o._base is not None or (o.is_leaf and o.requires_grad)):
                raise GradError(
                    f"{_name(fn)}: mark_dirty: a leaf that requires a gradient, or a view, cannot "
                    "be changed in place"
                )
            made.append(o)
        else:
            fresh = wrap(o._value())
            fresh._version = o._version
            made.append(fresh)
    if recording:
        node = _FunctionNode(fn, level, args, made, ctx)
        for k, (o, r) in enumerate(zip(made, raw)):
            if not isinstance(o, Tensor) or not o.dtype.is_inexact:
                continue
            if not any(r is n for n in ctx._non_differentiable):
                o._node, o._index, o._requires = node, k, True
        node.keep_outputs(made)
    return made


class _FunctionOp(Op):
    """Stands for a Function on the tape."""

    saves = "none"
    fresh_cotangents = False

    def __init__(self, name: str):
        object.__setattr__(self, "name", name)  # the class of every op is frozen


class _FunctionNode(tape.Node):
    """The node of a Function at one level of vmap (None: outside of all)."""

    __slots__ = ("fn", "ctx", "level")

    def __init__(self, fn: Any, level: Level | None, args: tuple, outs: list[Any], ctx: Context):
        self.fn, self.ctx, self.level = fn, ctx, level
        mine = [
            a if not isinstance(a, Tensor) or level_of(a) is level else _Constant(a._payload)
            for a in args
        ]
        super().__init__(_FunctionOp(_name(fn)), mine, outs)  # type: ignore[arg-type]
        for k, a in enumerate(args):
            if not isinstance(a, Tensor):
                self.inputs[k] = None
        for kind, k in ctx._entries:
            if kind == "input":
                edge = self.edges[k]
                saved = (
                    tape.Saved(args[k])
                    if edge is None
                    else tape.Saved(args[k], edge[0], edge[1], True)
                )
                if edge is None and level_of(args[k]) is not level:
                    saved = args[k]  # a tensor of the outside, with its place on the tape there
                self.inputs[k] = saved

    def keep_outputs(self, outs: list[Any]) -> None:
        """Save the outputs that forward asked for, now that they know their node."""
        for kind, k in self.ctx._entries:
            if kind == "output":
                self.outs[k] = tape.Saved(outs[k], None, k, outs[k].requires_grad)

    def _restored(self, linked: bool) -> list[Any]:
        made: list[Any] = []
        for kind, k in self.ctx._entries:
            if kind == "value":
                made.append(k)
                continue
            s = (self.inputs if kind == "input" else self.outs)[k]
            made.append(s.restore(self, linked) if type(s) is tape.Saved else s)
        return made

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        if self.inputs is None:
            raise tape._used_twice(self)
        if self.recompute is not None:
            self.recompute.fill()
        ctx = self.ctx
        linked = linked or not modes.grad  # the user's backward may record on its own
        if ctx._materialize:
            gs = [
                Full(tuple(o.shape), o.dtype, 0)() if g is None and o is not None else g
                for g, o in zip(gs, self.outs)
            ]
        results = _backward(self.fn, ctx, self._restored(linked), gs, len(self.edges))
        like = [
            None if x is None else x.payload if type(x) is tape.Saved else x for x in self.inputs
        ]
        return [
            _fitted(self.fn, k, r, x) if want and r is not None else None
            for k, (r, x, want) in enumerate(zip(results, like, wanted))
        ]

    def release(self) -> None:
        if self.ctx._entries:
            self.inputs = self.outs = self.recompute = None
            self.ctx = None  # type: ignore[assignment]

    def forget(self) -> None:
        super().forget()
        self.ctx = None  # type: ignore[assignment]

    def adopt(self, other: tape.Node) -> None:
        super().adopt(other)
        self.ctx = other.ctx  # type: ignore[attr-defined]


class _Constant:
    """An argument that belongs to another level: it has a payload and needs no gradient here."""

    __slots__ = ("_payload",)
    _requires = False

    def __init__(self, payload: Any):
        self._payload = payload


def _backward(fn: Any, ctx: Context, saved: list[Any], gs: list[Any], count: int) -> list[Any]:
    """The user's backward: one result for each of `count` arguments."""
    before, ctx._now = ctx._now, saved
    try:
        rule = fn.backward if fn.backward is not Function.backward else fn.vjp
        results = rule(ctx, *gs)
    finally:
        ctx._now = before
    results = list(results) if isinstance(results, (tuple, list)) else [results]
    if len(results) > count and all(r is None for r in results[count:]):
        results = results[:count]
    if len(results) != count:
        raise GradError(
            f"{_name(fn)}: backward returned {len(results)} gradients for {count} arguments of "
            "forward",
            hint="return None for arguments that have no gradient",
        )
    for k, r in enumerate(results):
        if r is not None and not isinstance(r, Tensor):
            raise ArgumentTypeError(
                f"{_name(fn)}: gradient {k} that backward returned is a {type(r).__name__}, not a "
                "tensor"
            )
    return results


def _fitted(fn: Any, k: int, g: Tensor, like: Any) -> Tensor:
    """g in the shape (summed where it was broadcast) and dtype of the input it belongs to."""
    shape, given = tuple(like.shape), tuple(g.shape)
    if shape != given:
        extra = len(given) - len(shape)
        fits = extra >= 0 and all(n in (1, m) for n, m in zip(shape, given[extra:]))
        if not fits:
            raise ShapeError(
                f"{_name(fn)}: gradient {k} that backward returned has shape {given}, the argument "
                f"has {shape}"
            )
        axes = [*range(extra)]
        axes += [a + extra for a, n in enumerate(shape) if n == 1 and given[a + extra] != 1]
        g = Reshape(shape)(Sum(tuple(axes))(g))
    d = like.dtype
    return cast(g, d if type(d) is DType else BY_NUMPY[d])


class _Batched:
    """A Function as the level outside of a vmap sees it: its tensors have the batch axis."""

    setup_context = staticmethod(Function.setup_context)

    def __init__(self, fn: Any, level: Level, args: tuple):
        self.fn, self.level = fn, level
        self.__name__ = _name(fn)
        self.needs = tuple(isinstance(a, Tensor) and any_requires_grad(a) for a in args)
        self.inner: list[Any] = []
        self.dims: list[int | None] = []
        self.owned: list[bool] = []
        for a in args:
            inner, dim = unwrap(a, level) if isinstance(a, Tensor) else (a, None)
            if isinstance(a, Tensor):
                a._value()
            self.inner.append(inner)
            self.dims.append(dim)
            self.owned.append(level_of(a) is level)

    def _inside(self, x: Any, dim: int | None, level: Level, owned: bool) -> Any:
        return wrap(Batched(x, dim, level)) if owned else x

    def forward(self, ctx: Context, *inner: Any) -> Any:
        with entered(self.level):
            args = [
                self._inside(x, d, self.level, own)
                for x, d, own in zip(inner, self.dims, self.owned)
            ]
            self.raw, self.single, self.ctx = _run(self.fn, args, self.needs)
        outs: list[Any] = []
        self.out_dims: list[int | None] = []
        for o in self.raw:
            value, dim = unwrap(o, self.level) if isinstance(o, Tensor) else (o, None)
            outs.append(value)
            self.out_dims.append(dim)
        kept, self.saved_dims = [], []
        for kind, k in self.ctx._entries:
            if kind == "input":
                kept.append(inner[k])
                self.saved_dims.append((self.dims[k], self.owned[k]))
            elif kind == "output":
                kept.append(outs[k])
                self.saved_dims.append((self.out_dims[k], True))
            elif k is None:
                kept.append(None)
                self.saved_dims.append((None, False))
            else:
                value, dim = unwrap(k, self.level)
                kept.append(value)
                self.saved_dims.append((dim, level_of(k) is self.level))
        ctx.save_for_backward(*kept)
        ctx.set_materialize_grads(self.ctx._materialize)
        for o, r in zip(outs, self.raw):
            if any(r is n for n in self.ctx._non_differentiable):
                ctx.mark_non_differentiable(o)
        return outs[0] if self.single else tuple(outs)

    def by_rule(self) -> tuple[list[Any], bool, Context]:
        """The outputs by the user's own vmap rule (its operations are on the tape outside)."""
        if self.fn.setup_context is Function.setup_context:
            raise ArgumentTypeError(
                f"{self.__name__}: a Function with a vmap rule needs setup_context as well"
            )
        info = VmapInfo(self.level.size, self.level.randomness)
        with entered(self.level.outer):
            result, dims = self.fn.vmap(info, tuple(self.dims), *self.inner)
        single = not isinstance(result, tuple)
        inner = [result] if single else list(result)
        self.out_dims = list(dims) if isinstance(dims, tuple) else [dims] * len(inner)
        args = [
            self._inside(x, d, self.level, own)
            for x, d, own in zip(self.inner, self.dims, self.owned)
        ]
        self.raw = [
            wrap(Batched(o, d, self.level)) if isinstance(o, Tensor) else o
            for o, d in zip(inner, self.out_dims)
        ]
        ctx = Context()
        ctx.needs_input_grad = self.needs
        with no_grad():
            self.fn.setup_context(ctx, tuple(args), self.raw[0] if single else tuple(self.raw))
        ctx._note_saved(args, self.raw)
        return inner, single, ctx

    def backward(self, ctx: Context, *gs: Any) -> tuple:
        level = Level(self.level.size, self.level.randomness)
        with entered(level):
            saved = [
                None if t is None else self._inside(t, d, level, own)
                for t, (d, own) in zip(ctx.saved_tensors, self.saved_dims)
            ]
            inside = [
                None if g is None else wrap(Batched(g, d, level)) for g, d in zip(gs, self.out_dims)
            ]
            results = _backward(self.fn, self.ctx, saved, inside, len(self.dims))
        made: list[Any] = []
        for r, dim, x in zip(results, self.dims, self.inner):
            if r is None or not isinstance(x, Tensor):
                made.append(None)
                continue
            value, d = unwrap(r, level)
            if dim is None:
                made.append(value if d is None else Sum((d,))(value))
            else:
                if d is None:
                    value, d = expand_batch(value, None, level.size), 0
                made.append(move_axis(value, d, dim))
        level.active = False
        return tuple(made)


class VmapInfo(NamedTuple):
    """What a Function's own vmap rule is told."""

    batch_size: int
    randomness: str


class _OnceOp(Op):
    """Stands for a gradient that cannot be differentiated."""

    name = "once_differentiable"
    saves = "none"

    def vjp(self, g: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
        raise GradError(
            "backward: the backward of this Function is marked @once_differentiable: it has no "
            "second derivative"
        )


def once_differentiable(backward: Callable) -> Callable:
    """Mark a Function's backward as not differentiable: a second derivative raises GradError."""

    @functools.wraps(backward)
    def wrapper(ctx: Context, *gs: Any) -> Any:
        with no_grad():
            results = backward(ctx, *gs)
        linked = [g for g in gs if isinstance(g, Tensor) and g.requires_grad]
        linked += [t for t in ctx.saved_tensors if isinstance(t, Tensor) and t.requires_grad]
        if not modes.grad or not linked:
            return results
        many = results if isinstance(results, (tuple, list)) else (results,)
        made = []
        for r in many:
            if isinstance(r, Tensor) and r.dtype.is_inexact:
                r = wrap(r._value())
                r._node, r._requires = tape.Node(_OnceOp(), linked, (r,)), True
            made.append(r)
        return tuple(made)

    return wrapper
