"""Graphs as text, and back: what is printed can be parsed, checked and replayed.

    graph(%0: f32[4, 8], %1: f32[8]) {
      %2: f32[4, 8] = expand(%1) shape=(4,8) axes=(0,)
      %3: f32[4, 8] = add(%0, %2)            # train.py:12
      return %3
    }

Constants print as `%5: f32[3] = constant [1.0,2.0,3.0]`. Regions, the graphs that ops hold, follow
under the names that the ops' parameters give them: `@0 = graph(...) {...}`.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtype import DType, as_dtype, from_code
from ..core.errors import GraphError
from .graph import Graph, Value
from .op import REGISTRY, Aval, Op, WithNumPy
from .region import Region


def format_graph(graph: Graph, places: bool = True) -> str:
    """The text of a graph; `places` adds the user's lines as comments."""
    regions: dict[Region, str] = {}
    text = _format(graph, places, regions)
    done = 0
    while done < len(regions):  # regions may hold regions
        region, name = list(regions.items())[done]
        text += f"\n{name} = " + _format(region.graph, places, regions)
        done += 1
    return text


def _format(graph: Graph, places: bool, regions: dict[Region, str]) -> str:
    names: dict[Value, str] = {}

    def name(v: Any) -> str:
        if not isinstance(v, Value):
            return repr(v)
        return names.setdefault(v, f"%{len(names)}")

    head = ", ".join(f"{name(v)}: {v.aval!r}" for v in graph.inputs)
    lines = [f"graph({head}) {{"]
    for v, array in graph.constants.items():
        flat = ",".join(repr(e) for e in np.asarray(array).reshape(-1).tolist())
        lines.append(f"  {name(v)}: {v.aval!r} = constant [{flat}]")
    for node in graph.nodes:
        inputs = ", ".join(name(v) for v in node.inputs)
        outs = ", ".join(f"{name(v)}: {v.aval!r}" for v in node.outputs)
        line = f"  {outs} = {node.op.name}({inputs}) {_params(node.op, regions)}".rstrip()
        if places and node.place:
            line += f"  # {os.path.basename(node.place.file)}:{node.place.line}"
        lines.append(line)
    lines.append("  return " + ", ".join(name(v) for v in graph.outputs))
    return "\n".join(lines) + "\n}"


def _params(op: Op, regions: dict[Region, str]) -> str:
    """The op's parameters, regions by their names."""
    held = {f: getattr(op, f) for f in getattr(op, "__dataclass_fields__", ())}
    if not any(isinstance(x, Region) for x in held.values()):
        return op.params()
    words = []
    for name, x in held.items():
        if isinstance(x, Region):
            words.append(f"{name}={regions.setdefault(x, f'@{len(regions)}')}")
        else:
            words.append(f"{name}={x!r}".replace(", ", ","))
    return " ".join(words)


_VALUE = re.compile(r"(%\d+): (\w+)\[([\d, ]*)\]")
_PARAM = re.compile(r"(\w+)=(\([^=]*\)|'[^']*'|[^ ]+)(?: |$)")


def parse_graph(text: str) -> Graph:
    """The graph that `format_graph` printed; GraphError names the line that cannot be read."""
    first, *others = re.split(r"^(?=@\d+ = graph\()", text.strip(), flags=re.MULTILINE)
    bodies = dict(other.split(" = ", 1) for other in others)
    known: dict[str, Region] = {}

    def region(name: str) -> Region:
        if name not in known:
            if name not in bodies:
                raise GraphError(f"parse_graph: there is no region {name}")
            known[name] = Region(_parse(bodies[name], region))
        return known[name]

    return _parse(first, region)


def _parse(text: str, region: Callable[[str], Region]) -> Graph:
    graph = Graph()
    values: dict[str, Value] = {}

    def operand(word: str) -> Any:
        word = word.strip()
        if word.startswith("%"):
            if word not in values:
                raise GraphError(f"parse_graph: {word} is used before it is defined")
            return values[word]
        return float(word) if word in ("nan", "inf", "-inf") else ast.literal_eval(word)

    for number, raw in enumerate(text.strip().splitlines(), 1):
        line = raw.split("  # ")[0].strip()
        try:
            if line.startswith("graph("):
                for name, aval in _avals(line):
                    values[name] = graph.input(aval)
            elif line.startswith("return"):
                rest = line[len("return") :].strip()
                graph.outputs = [operand(w) for w in rest.split(",")] if rest else []
            elif line and line != "}":
                _parse_node(graph, values, operand, line, region)
        except GraphError:
            raise
        except Exception as error:
            raise GraphError(f"parse_graph: line {number}: {raw.strip()!r}: {error}") from error
    return graph


def _avals(text: str) -> list[tuple[str, Aval]]:
    return [
        (name, Aval(tuple(int(n) for n in sizes.split(",") if n.strip()), from_code(code)))
        for name, code, sizes in _VALUE.findall(text)
    ]


def _parse_node(
    graph: Graph,
    values: dict[str, Value],
    operand: Any,
    line: str,
    region: Callable[[str], Region],
) -> None:
    left, right = line.split(" = ", 1)
    declared = _avals(left)
    if right.startswith("constant"):
        name, aval = declared[0]
        literal = right[len("constant ") :].replace("nan", "'nan'").replace("inf", "'inf'")
        flat = [float(e) if isinstance(e, str) else e for e in ast.literal_eval(literal)]
        array = np.array(flat).astype(aval.dtype.numpy).reshape(aval.shape)
        values[name] = graph.constant(array, aval)
        return
    op_name, rest = right.split("(", 1)
    depth = rest.index(")")
    inputs, params = rest[:depth], rest[depth + 1 :].strip()
    plain = op_name.removeprefix("numpy_")
    cls = REGISTRY.get(plain)
    if cls is None:
        raise GraphError(f"parse_graph: unknown op {op_name!r}")
    kwargs = {
        key: region(text) if text.startswith("@") else _parse_param(cls, key, text)
        for key, text in _PARAM.findall(params)
    }
    args = [operand(w) for w in inputs.split(",")] if inputs.strip() else []
    op = cls(**kwargs)
    out = graph.add(op if plain == op_name else WithNumPy(op), *args)
    outs = out if isinstance(out, tuple) else (out,)
    for (name, aval), value in zip(declared, outs):
        if value.aval != aval:
            raise GraphError(f"parse_graph: {name} is declared {aval!r} but is {value.aval!r}")
        values[name] = value


def _parse_param(cls: Any, key: str, text: str) -> Any:
    known = {f.name: str(f.type) for f in dataclasses.fields(cls)}
    if "DType" in known.get(key, ""):
        return as_dtype(text) if text != "None" else None
    if text in ("nan", "inf", "-inf"):
        return float(text)
    value = ast.literal_eval(text)
    return value if not isinstance(value, DType) else value
