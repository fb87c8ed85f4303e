"""The compiler's passes: what their docstrings show, and what they must keep."""

import inspect
import re
import textwrap

import numpy as np
import pytest

import monograph as mg
from monograph.compiler.pipeline import PASSES, run_passes
from monograph.compiler.simplify import remove_dead, simplify, split_reductions
from monograph.core import dtype as dt
from monograph.core.errors import GraphError
from monograph.ir.evaluate import evaluate
from monograph.ir.graph import Graph, Node
from monograph.ir.op import REGISTRY, Aval
from monograph.ir.text import format_graph, parse_graph
from monograph.ir.verify import verify
from monograph.nn import functional as F
from monograph.testing import raises_message, random_program
from monograph.transform.trace import trace_graph

UNIQUE_PASSES = list(dict.fromkeys(PASSES))


def examples(p):
    """The graphs of a pass's docstring: (before, after), as text that parse_graph reads."""
    doc = inspect.getdoc(p)
    found = re.search(r"^Before:(.*?)^After:(.*?)(?=^\S|\Z)", doc, re.M | re.S)
    assert found, f"{p.__name__} shows no Before: and After:"
    return [
        textwrap.dedent(" " * len(label) + text)
        for label, text in zip(("Before:", "After:"), found.groups())
    ]


def arrays_for(graph, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.uniform(-2, 2, v.shape).astype(v.dtype.numpy)
        if v.dtype.is_floating_point
        else rng.integers(0, 3, v.shape).astype(v.dtype.numpy)
        for v in graph.inputs
    ]


def assert_same_meaning(a, b, seed=0, **tolerance):
    arrays = arrays_for(a, seed)
    for x, y in zip(evaluate(a, *arrays), evaluate(b, *arrays), strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_allclose(x, y, **(tolerance or {"rtol": 1e-5, "atol": 1e-5}))


@pytest.mark.parametrize("p", UNIQUE_PASSES, ids=lambda p: p.__name__)
def test_a_pass_does_what_its_docstring_shows(p):
    before, after = (parse_graph(text) for text in examples(p))
    result = verify(p(before), after=p.__name__)
    if p is simplify:  # what nobody reads any more is for remove_dead
        result, after = remove_dead(result), remove_dead(after)
    assert format_graph(result) == format_graph(after)
    big = sum(v.aval.size for v in before.inputs) > 1e6
    assert_same_meaning(before, result, **({"rtol": 1e-3, "atol": 0.5} if big else {}))


@pytest.mark.parametrize("seed", range(25))
def test_each_pass_keeps_what_random_graphs_mean(seed):
    program = random_program(200 + seed, steps=14, dtype=np.float64)
    graph, _ = trace_graph(program, *program.tensors())
    expected = evaluate(graph, *program.arrays)
    for p in PASSES:
        graph = verify(p(graph), after=p.__name__)
        for a, b in zip(evaluate(graph, *program.arrays), expected, strict=True):
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_passes_are_done_when_they_are_done(seed):
    program = random_program(300 + seed, steps=14)
    once = run_passes(trace_graph(program, *program.tensors())[0])
    twice = remove_dead(simplify(once))
    # Split sums would be joined again; nothing else changes.
    if not any("sum" in line for line in format_graph(once).splitlines()):
        assert format_graph(twice, places=False) == format_graph(once, places=False)


@pytest.mark.parametrize("seed", range(25))
def test_captured_graphs_survive_text(seed):
    program = random_program(400 + seed, steps=14)
    graph, _ = trace_graph(program, *program.tensors())
    text = format_graph(graph, places=False)
    again = parse_graph(text)
    assert format_graph(again) == text
    for a, b in zip(evaluate(again, *program.arrays), evaluate(graph, *program.arrays)):
        np.testing.assert_array_equal(a, b)


def layer_graphs():
    x, t = mg.zeros(4, 6), mg.zeros(4, dtype=mg.int64)
    image, w = mg.zeros(2, 3, 8, 8), mg.zeros(4, 3, 3, 3)
    q = mg.zeros(2, 2, 5, 4)
    return {
        "cross_entropy": (lambda x, t: F.cross_entropy(x, t), x, t),
        "layer_norm": (lambda x: F.layer_norm(x, (6,)), x),
        "conv": (lambda x, w: F.max_pool2d(F.conv2d(x, w, stride=2, padding=1), 2), image, w),
        "attention": (lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), q),
        "embedding": (lambda t, x: F.embedding(t, x), t, x),
        "sort": (lambda x: x.sort(dim=1), x),
        "casts": (lambda x: (x.to(mg.bfloat16), x > 0, x.to(mg.int32), x.double()), x),
        "special": (lambda x: (x * float("inf"), mg.where(x > 0, x, float("nan"))), x),
        "constants": (lambda x: x + mg.tensor([1.0, float("nan"), -0.0, 2.5, float("inf"), 3]), x),
        "norm": (lambda x: F.batch_norm(x, None, None, training=True), x),
        "movement": (lambda x: mg.cat([x.flip(0), x.roll(1, 1), F.pad(x, (0, 0, 1, 0))[1:]]), x),
        "empty": (lambda x: (x[:0], x.sum()), x),
    }


@pytest.mark.parametrize("name", list(layer_graphs()))
def test_graphs_of_layers_survive_text(name):
    f, *tensors = layer_graphs()[name]
    graph, _ = trace_graph(f, *tensors)
    text = format_graph(graph, places=False)
    assert format_graph(parse_graph(text)) == text
    assert_same_meaning(parse_graph(text), graph, equal_nan=True, rtol=0)
    verify(run_passes(parse_graph(text)))


def op(name, *fields, **named):
    return REGISTRY[name](*fields, **named)


def simplified(*lines, inputs="%0: f32[2, 3]"):
    graph = parse_graph("\n".join([f"graph({inputs}) {{", *lines, "}"]))
    return format_graph(remove_dead(simplify(graph))).splitlines()[1:-1]


def test_neutral_numbers_disappear():
    lines = [
        "%1: f32[2, 3] = mul(%0, 1)",
        "%2: f32[2, 3] = add(%1, 0)",
        "%3: f32[2, 3] = div(%2, 1)",
        "%4: f32[2, 3] = sub(%3, 0.0)",
    ]
    assert simplified(*lines, "return %4") == ["  return %0"]


def test_subtraction_from_zero_stays():
    assert simplified("%1: f32[2, 3] = sub(0, %0)", "return %1") == [
        "  %1: f32[2, 3] = sub(0, %0)",
        "  return %1",
    ]


def test_permutations_compose():
    assert simplified(
        "%1: f32[3, 2] = permute(%0) order=(1,0)",
        "%2: f32[2, 3] = permute(%1) order=(1,0)",
        "return %2",
    ) == ["  return %0"]


def test_equal_computations_are_made_once_but_not_literals_of_another_kind():
    lines = simplified(
        "%1: f32[2, 3] = mul(%0, 2.0)",
        "%2: f32[2, 3] = mul(%0, 2.0)",
        "%3: f32[2, 3] = mul(%0, -0.0)",
        "%4: f32[2, 3] = mul(%0, 0.0)",
        "return %1, %2, %3, %4",
    )
    assert lines[-1] == "  return %1, %1, %2, %3"


def test_random_bits_with_different_keys_are_not_merged():
    graph, _ = trace_graph(lambda: (mg.rand(3), mg.rand(3)))
    a, b = remove_dead(simplify(graph)).outputs
    assert a is not b


def test_inputs_and_constants_that_nobody_reads():
    graph, _ = trace_graph(
        lambda x, y: x + mg.tensor([1.0, 2.0, 3.0]) * 0 + x, mg.ones(3), mg.ones(2)
    )
    result = run_passes(graph)
    assert len(result.inputs) == 2  # the program's signature stays
    empty = Graph()
    empty.constant(np.ones(3, np.float32), Aval((3,), dt.float32))
    assert not remove_dead(empty).constants


def test_reductions_over_nothing_are_their_identity():
    lines = simplified("%1: f32[2] = sum(%0) axes=(1,)", "return %1", inputs="%0: f32[2, 0]")
    assert lines[0].startswith("  %1: f32[2] = full()")


LONG = [
    ((200000,), (0,)),
    ((700, 300), (0, 1)),
    ((99991,), (0,)),
    ((3, 90000), (1,)),
    ((64, 3, 40, 40), (0, 2, 3)),
]


@pytest.mark.parametrize("shape, axes", LONG)
def test_split_sums_are_sums(shape, axes):
    graph = Graph()
    x = graph.input(Aval(shape, dt.float64))
    graph.outputs = [graph.add(op("sum", axes), x)]
    result = verify(split_reductions(graph))
    assert_same_meaning(graph, result, rtol=1e-9, atol=1e-9)


# verify


def chain():
    graph = Graph()
    x = graph.input(Aval((2,), dt.float32), "x")
    y = graph.add(op("exp"), x)
    z = graph.add(op("neg"), y)
    graph.outputs = [z]
    return graph, x, y, z


def test_verify_accepts_what_is_right():
    graph, *_ = chain()
    assert verify(graph) is graph


def test_a_value_read_before_it_is_made():
    graph, *_ = chain()
    graph.nodes.reverse()
    with raises_message(
        GraphError,
        "verify after shuffle: node 0 <neg > reads <value: f32[2]> before it is made",
    ):
        verify(graph, after="shuffle")


def test_an_output_that_is_never_made():
    graph, *_ = chain()
    graph.nodes.pop()
    with raises_message(GraphError, "verify: output <value: f32[2]> is never made"):
        verify(graph)


def test_a_node_listed_twice():
    graph, *_ = chain()
    graph.nodes.append(graph.nodes[0])
    with pytest.raises(GraphError, match="node 2 <exp > defines .* again"):
        verify(graph)


def test_a_result_of_another_shape_than_the_op_says():
    graph, x, y, z = chain()
    z.aval = Aval((3,), dt.float32)
    with raises_message(GraphError, "verify: node 1 <neg > gives [f32[3]], its op says [f32[2]]"):
        verify(graph)


def test_a_constant_with_the_wrong_array_and_an_input_listed_twice():
    graph, x, *_ = chain()
    graph.constants[graph.input(Aval((2,), dt.float32))] = np.ones(2, np.float32)
    with pytest.raises(GraphError, match="an input or constant is listed twice"):
        verify(graph)
    graph, *_ = chain()
    graph.constant(np.ones(3), Aval((3,), dt.float32))
    with pytest.raises(GraphError, match=r"constant .* holds float64\(3,\)"):
        verify(graph)


def test_text_that_cannot_be_read():
    for text, message in [
        ("graph(%0: f32[2]) {\n return %1\n}", "parse_graph: %1 is used before it is defined"),
        (
            "graph(%0: f32[2]) {\n %1: f32[2] = nonsense(%0)\n}",
            "parse_graph: unknown op 'nonsense'",
        ),
        (
            "graph(%0: f32[2]) {\n %1: f32[3] = exp(%0)\n}",
            "parse_graph: %1 is declared f32[3] but is f32[2]",
        ),
    ]:
        with raises_message(GraphError, message):
            parse_graph(text)
    with pytest.raises(GraphError, match="parse_graph: line 2: '%1 exp'"):
        parse_graph("graph(%0: f32[2]) {\n %1 exp\n}")


def test_nodes_know_the_users_line():
    graph, _ = trace_graph(lambda x: x.exp() * 2, mg.ones(2))
    assert all(isinstance(n, Node) and n.place.file == __file__ for n in graph.nodes)
    assert "# test_passes.py:" in format_graph(graph)
