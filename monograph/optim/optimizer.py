"""Optimizer: parameter groups, state, state dicts; and how an update reads its hyper-parameters.

An update is written as in-place tensor operations, so that a captured training step holds it too.
For that, state is made by `_state_of` and `_counted` (real tensors even while a step is captured),
what a scheduler may change is read by `_live`, and all other hyper-parameters by `_fixed`. Read
next: sgd.py, adam.py; captured.py for steps that programs define.
"""

from collections import Counter, defaultdict

import monograph as mg
from monograph.api.compiled import is_enabled
from monograph.core.errors import ArgumentError, ArgumentTypeError, GradError, StateDictError
from monograph.core.modes import enable_grad, no_grad
from monograph.core.tracing import Entry, concrete, guarded, is_assigned, is_tracing, live_scalar
from monograph.optim.captured import captured_step
from monograph.optim.hooks import HasHooks
from monograph.tensor import Tensor

required = type("_Required", (), {"__repr__": lambda self: "<required>"})()  # a default: none
SMALL = 64  # elements below which an eager step is not compiled
PATIENCE = 16  # ... unless there were so many (the numbers are the same either way)


class Optimizer(HasHooks):
    """Base class: `params` is an iterable of tensors, (name, tensor) pairs, or dicts (groups).

    A group is a dict with "params" and any options that differ from the defaults. `state[param]`
    holds tensors; `param_groups` may be read and changed at any time, also between calls of a
    captured step.

    An eager step() of the optimizers here runs as one compiled program, made at the first step, for
    parameters of more than a few numbers. fused=False keeps to one operation after the other;
    fused=True also compiles what a subclass defines. Inside a captured function it changes nothing.
    """

    _small_steps = 0

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__ and not cls.__module__.startswith("monograph."):
            cls.step = captured_step(cls.step)

    _takes_rows = False  # whether gradients may be sparse (api/sparse.py)

    def __init__(self, params, defaults, fused=None):
        self.defaults = defaults
        self.fused = fused
        self._program = None  # the compiled _update_present
        self._stood = None  # which tensors _program was made for
        self.state = defaultdict(dict)
        self.param_groups = []
        self._scheduled = set()  # options that a scheduler changes, other than lr
        self._generation = 0  # counts what makes a captured step stale: other groups or state
        if isinstance(params, Tensor):
            raise ArgumentTypeError(
                f"{self._name}: params must be an iterable of tensors or dicts, got one Tensor",
                hint="put it into a list",
            )
        if not hasattr(params, "__iter__"):
            raise ArgumentTypeError(
                f"{self._name}: params must be an iterable of tensors or dicts, "
                f"got {type(params).__name__}",
                hint="a module's are model.parameters()",
            )
        groups = list(params)
        if not groups:
            raise ArgumentError(f"{self._name}: there are no parameters to optimize")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    @property
    def _name(self):
        return type(self).__name__

    def add_param_group(self, param_group):
        """Add a group: a dict with "params" (tensors, or (name, tensor) pairs) and options."""
        if not isinstance(param_group, dict):
            raise ArgumentTypeError(
                f"{self._name}: a parameter group must be a dict, got {type(param_group).__name__}"
            )
        group = dict(param_group)
        params = group.get("params")
        if isinstance(params, set):
            raise ArgumentTypeError(
                f"{self._name}: params must be ordered, got a set", hint="use a list"
            )
        params = [params] if isinstance(params, Tensor) else list(params or ())
        if params and isinstance(params[0], tuple):
            group["param_names"] = [name for name, _ in params]
            params = [param for _, param in params]
        group["params"] = params
        known = {id(p) for existing in self.param_groups for p in existing["params"]}
        for i, param in enumerate(params):
            if not isinstance(param, Tensor):
                raise ArgumentTypeError(
                    f"{self._name}: parameter {i} must be a Tensor, got {type(param).__name__}"
                )
            if not param.is_leaf:
                raise GradError(
                    f"{self._name}: parameter {i} of shape {tuple(param.shape)} is the result of a "
                    "computation; only leaves can be optimized"
                )
            if id(param) in known:
                raise ArgumentError(
                    f"{self._name}: parameter {i} of shape {tuple(param.shape)} appears twice"
                )
            known.add(id(param))
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.param_groups.append(group)
        self._generation += 1

    def zero_grad(self, set_to_none=True):
        """Drop the gradients of all parameters (or fill them with zeros)."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    param.grad.detach_().zero_()

    def step(self, closure=None):
        """Update all parameters that have a gradient.

        closure  a function that clears gradients, computes the loss, calls backward and returns the
                 loss; it runs first and its result is returned
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            grads = [param.grad for group in self.param_groups for param in group["params"]]
            if not self._takes_rows and any(g is not None and g.is_sparse for g in grads):
                raise GradError(
                    f"{self._name}: a gradient is sparse",
                    hint="SGD, Adagrad and SparseAdam take those of Embedding(sparse=True)",
                )
            if is_tracing() or not self._is_compiled(grads):
                self._update_all(grads)
            else:
                self._run_program(grads)
        return loss

    def _is_compiled(self, grads):
        """Whether an eager step runs as one program."""
        if self.fused is not None:
            return self.fused
        if not (is_enabled() and type(self).__module__.startswith(__package__)):
            return False
        if self._program or sum(g.numel() for g in grads if g is not None) >= SMALL:
            return True
        self._small_steps += 1
        return self._small_steps > PATIENCE

    def _run_program(self, grads):
        """_update_all(grads) as one native call."""
        if self._program is None:
            self._program = mg.jit(self._update_present)
        present = "".join("-" if g is None else "g" for g in grads)
        same = self._identities() == self._stood
        if not same:
            self._generation += 1
        self._program(present, *(g for g in grads if g is not None))
        if not same:
            self._stood = self._identities()

    def _identities(self):
        """Which tensors parameters and state are: a program knows them by reference."""
        params = [p for group in self.param_groups for p in group["params"]]
        return [id(t) for p in params for t in (p, *self.state.get(p, {}).values())]

    def _update_present(self, present, *grads):
        """_update_all, where `present` says by letters which gradients are there."""
        given = iter(grads)
        self._update_all([next(given) if letter == "g" else None for letter in present])

    def _update_all(self, grads):
        """Update the parameters (in the order of the groups) whose entry in `grads` is not None."""
        guarded(lambda: self._generation, f"{self._name} parameter groups and state")
        given = iter(grads)
        for group in self.param_groups:
            pairs = [(p, g) for p, g in zip(group["params"], given) if g is not None]
            if pairs:
                self._update(group, pairs)

    def _update(self, group, pairs):
        """Update parameters of `group`; `pairs` holds (parameter, gradient)."""
        raise NotImplementedError(f"{self._name}._update is not defined")

    # ---- hyper-parameters and state, eager and captured

    def _live(self, group, name, index=None):
        """An option that may change between calls: a number, or while capturing a tensor."""

        def read():
            return group[name] if index is None else group[name][index]

        value = read()
        if isinstance(value, Tensor) or is_assigned(group, name):
            return value
        return live_scalar(read)

    def _fixed(self, group, name):
        """An option that is compiled in (a change means a new capture), or live if scheduled."""
        if name in self._scheduled or is_assigned(group, name):
            return self._live(group, name)
        return guarded(Entry(group, name), f"{self._name} {name}")

    def _betas(self, group):
        """The pair `betas`; the first is live where a scheduler drives it."""
        if "betas" not in self._scheduled:
            return self._fixed(group, "betas")
        return self._live(group, "betas", 0), guarded(
            lambda: group["betas"][1], f"{self._name} betas[1]"
        )

    def _state_of(self, param, *names):
        """State tensors shaped like `param`, zeros where they do not exist yet."""
        state = self.state[param]
        for name in names:
            if name not in state:
                with concrete():
                    state[name] = mg.zeros(param.shape, dtype=param.dtype, device=param.device)
        return [state[name] for name in names]

    def _scalar_of(self, param, name, start):
        """A 0-d float32 tensor in the state of `param`, `start` where it does not exist yet."""
        state = self.state[param]
        if name not in state:
            with concrete():
                state[name] = mg.tensor(start, dtype=mg.float32)
        return state[name]

    def _state_shape(self, key, param):
        """The shape that state `key` of `param` must have (None: any), asked when it is loaded."""
        return tuple(param.shape)

    def _start_counts(self, params):
        """Give those of `params` that have no step count one that they share."""
        new = [p for p in params if "step" not in self.state[p]]
        if new:
            with concrete():
                count = mg.zeros((), dtype=mg.float32)
            for param in new:
                self.state[param]["step"] = count

    def _counted(self, group, pairs):
        """Add 1 to the step counts of the parameters in `pairs`; return [(count, its pairs), ...].

        A count is a number, or while capturing a 0-d tensor. Parameters of a group that started
        together share one tensor, so that what depends on it is computed once; where only some of
        them have a gradient those get a tensor of their own.
        """
        self._start_counts([param for param, _ in pairs])
        together = defaultdict(list)
        for pair in pairs:
            together[id(self.state[pair[0]]["step"])].append(pair)
        owners = Counter(
            id(self.state[p]["step"]) for p in group["params"] if "step" in self.state.get(p, ())
        )
        counted = []
        for members in together.values():
            count = self.state[members[0][0]]["step"]
            if len(members) < owners[id(count)]:
                with concrete():
                    count = count.clone()
                for param, _ in members:
                    self.state[param]["step"] = count
                self._generation += 1
            count.add_(1)
            counted.append((as_number(count), members))
        return counted

    # ---- saving

    def state_dict(self):
        """Return {"state": {number: state}, "param_groups": [...]}; parameters become numbers."""
        numbers = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                numbers.setdefault(id(param), len(numbers))
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            groups.append(packed)
        state = {numbers[id(p)]: dict(s) for p, s in self.state.items() if id(p) in numbers}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Load what `state_dict` returned: options of the groups, and the state of each parameter.

        Tensors are copied, floating ones in the dtype of their parameter ("step" stays float32).
        StateDictError if groups, numbers of parameters or shapes differ; then nothing has been
        loaded.
        """
        for key in ("state", "param_groups"):
            if key not in state_dict:
                raise StateDictError(f"{self._name}.load_state_dict: '{key}' is missing")
        groups = state_dict["param_groups"]
        sizes, own = (
            [len(g["params"]) for g in groups],
            [len(g["params"]) for g in self.param_groups],
        )
        if sizes != own:
            raise StateDictError(
                f"{self._name}.load_state_dict: the parameter groups differ in number or size: "
                f"the state dict has {sizes} parameters per group, the optimizer {own}"
            )
        params = [p for group in self.param_groups for p in group["params"]]
        numbers = [n for group in groups for n in group["params"]]
        by_number = dict(zip(numbers, params))
        group_of = {n: i for i, group in enumerate(groups) for n in group["params"]}
        loaded, counts, problems = {}, {}, []
        for number, entries in state_dict["state"].items():
            param = by_number.get(number)
            if param is None:
                problems.append(f"state for unknown parameter {number}")
                continue
            entries = {k: _adapt(k, v, param, counts, group_of[number]) for k, v in entries.items()}
            for key, value in entries.items():
                wanted = self._state_shape(key, param)
                if isinstance(value, Tensor) and value.ndim and tuple(value.shape) != wanted:
                    if wanted is None:
                        continue
                    problems.append(
                        f"parameter {number}, {key}: shape {tuple(value.shape)}, "
                        f"the parameter has {tuple(param.shape)}"
                    )
            loaded[param] = entries
        if problems:
            rows = "\n".join(f"    {problem}" for problem in problems)
            raise StateDictError(
                f"{self._name}.load_state_dict: {len(problems)} problem"
                f"{'s' if len(problems) > 1 else ''} with the state dict:\n{rows}",
                hint="nothing was loaded",
            )
        for group, saved in zip(self.param_groups, groups):
            group.update({k: v for k, v in saved.items() if k != "params"})
        self.state.clear()
        self.state.update(loaded)
        self._generation += 1

    def __getstate__(self):
        return {**self.__dict__, "_program": None, "_stood": None}

    def __repr__(self):
        text = f"{self._name} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            for key in sorted(group):
                if key not in ("params", "param_names"):
                    text += f"    {key}: {group[key]}\n"
        return text + ")"


def as_number(count):
    """A step count as a Python number; while capturing as a tensor that stands for one."""
    if not is_tracing():
        return count.item()
    number = count.double()
    number._weak = True
    return number


def _adapt(key, value, param, counts, group):
    """A saved value as state of `param`: a copy; equal step counts of a group become one tensor."""
    if not isinstance(value, Tensor):
        if key != "step":
            return value
        value = mg.tensor(float(value), dtype=mg.float32)
    if key == "step":
        return counts.setdefault((group, value.item()), value.detach().clone())
    value = value.detach().clone()
    return value.to(param.dtype) if value.is_floating_point() else value


def decayed(average):
    """A running average; while capturing with zeros for what decay has made subnormal.

    Where no gradient arrives any more (units that never fire, rows that are never looked up) an
    average shrinks until it is a subnormal number and then stays one. Arithmetic on these takes
    processors a hundred times longer; in an update they are too small to be seen.
    """
    if not is_tracing() or average.dtype is mg.float16:  # whose subnormals are of common size
        return average
    return mg.where(average.abs() < mg.finfo(average.dtype).tiny, 0.0, average)


def larger(a, b):
    """The larger of two numbers, which may be tensors that stand for numbers (see as_number)."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return mg.where(a > b, a, b)
    return max(a, b)


def smaller(a, b):
    """The smaller of two numbers; see `larger`."""
    return -larger(-a, -b)


def check_option(owner, name, value, low=0.0, below=None):
    """Raise unless low <= value (< below); a tensor is taken as it is."""
    if isinstance(value, Tensor):
        return
    if not value >= low or (below is not None and not value < below):
        limits = f"at least {low}" if below is None else f"in [{low}, {below})"
        raise ArgumentError(f"{owner}: {name} must be {limits}, got {value}")


def check_unsupported(owner, **options):
    """Raise if one of PyTorch's options that this optimizer does not have is asked for."""
    for name, value in options.items():
        if value:
            raise ArgumentError(f"{owner}: {name}=True is not supported")
