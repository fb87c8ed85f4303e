"""Values that convolutions want channels-last and others read flat, transposed or in parts.

Random programs: images and what is made of them, each value read in several ways; results and
gradients of the captured program against the eager ones.
"""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F


class Program:
    """A random function of an image (N, C, H, W), and the weights it uses."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.weights = []
        self.choices = {}
        n, c = (int(self.rng.choice(s)) for s in ([1, 2, 3], [1, 2, 4, 8]))
        h, w = (int(self.rng.choice([1, 2, 4, 6])) for _ in range(2))
        self.x = self.random(n, c, h, w)
        self.length = int(self.rng.integers(3, 8))

    def random(self, *shape):
        return mg.tensor(self.rng.uniform(-1, 1, shape))

    def weight(self, key, *shape):
        """A weight that is made in the first run and used again in the later ones."""
        known = dict(self.weights)
        if key not in known:
            made = self.random(*shape).requires_grad_()
            self.weights.append((key, made))
            return made
        return known[key]

    def choose(self, key, options):
        """The same choice each time the program runs."""
        if key not in self.choices:
            self.choices[key] = int(self.rng.integers(1 << 30))
        return options[self.choices[key] % len(options)]

    def __call__(self, x):
        images, flat, key = [x], [], 0
        for key in range(self.length):
            image = self.choose((key, "image"), images)
            n, c, h, w = image.shape
            kind = self.choose(
                (key, "kind"), ["conv", "conv", "pool", "join", "norm", "flat", "flat"]
            )
            if kind == "conv":
                images.append(self.conv(key, image))
            elif kind == "pool" and h > 1 and w > 1:
                pool = self.choose((key, "pool"), [F.max_pool2d, F.avg_pool2d])
                images.append(pool(image, 2))
            elif kind == "join":
                same = [i for i in images if tuple(i.shape) == tuple(image.shape)]
                images.append((image + self.choose((key, "other"), same)).relu())
            elif kind == "norm":
                images.append(F.group_norm(image, 1).tanh())
            else:
                flat.append(self.read(key, image))
        flat.append(self.read(key + 1, images[-1]))
        outputs = [f.sum() for f in flat] + [i.mean() for i in images[1:]]
        return sum(outputs[1:], outputs[0]), *flat

    def conv(self, key, image):
        c = image.shape[1]
        groups = self.choose((key, "groups"), [1, 1, 2, c])
        groups = groups if c % groups == 0 else 1
        k = self.choose((key, "k"), [1, 3])
        o = groups * self.choose((key, "o"), [1, 2, 4])
        stride = self.choose((key, "stride"), [1, 1, 2])
        weight = self.weight((key, "w"), o, c // groups, k, k)
        made = F.conv2d(image, weight, None, stride, k // 2, 1, groups)
        return made.relu() if self.choose((key, "relu"), [True, False]) else made

    def read(self, key, image):
        n, c, h, w = image.shape
        kind = self.choose((key, "read"), [
            "linear", "linear", "rows", "columns", "channels", "gram", "tokens", "parts", "heads",
            "conv1d", "weight",
        ])  # fmt: skip
        if kind == "linear":
            return F.linear(image.flatten(1), self.weight((key, "l"), 5, c * h * w)).tanh()
        if kind == "rows":
            return mg.einsum("nchw,wk->nchk", image, self.weight((key, "r"), w, 3))
        if kind == "columns":
            return mg.einsum("nchw,hk->nkcw", image, self.weight((key, "c"), h, 3))
        if kind == "channels":
            return mg.einsum("nchw,ck->nhwk", image, self.weight((key, "k"), c, 3))
        if kind == "gram":
            rows = image.reshape(n, c, h * w)
            return rows @ rows.transpose(1, 2)
        if kind == "tokens":
            tokens = image.flatten(2).transpose(1, 2)
            return F.scaled_dot_product_attention(tokens, tokens, tokens)
        if kind == "parts":
            return image.reshape(n, -1)[:, : max(1, c * h * w // 2)] @ self.weight(
                (key, "p"), max(1, c * h * w // 2), 4
            )
        if kind == "heads":
            return image.reshape(n * c, h * w) @ self.weight((key, "h"), h * w, 4)
        if kind == "conv1d":
            return F.conv1d(image.reshape(n, c * h, w), self.weight((key, "1"), 2, c * h, 1))
        return F.conv2d(image.transpose(0, 1), image.transpose(0, 1))  # as filters too


def check(seed):
    program = Program(seed)

    def run(x):
        total, *flat = program(x)
        inputs = [x, *(w for _, w in program.weights)]
        return [total, *flat, *mg.autograd.grad(total, inputs, allow_unused=True)]

    x = program.x.requires_grad_()
    expected = run(x)
    made = mg.jit(run)(x)
    for i, (a, b) in enumerate(zip(made, expected, strict=True)):
        if b is None:
            assert a is None
            continue
        a, b = a.numpy(force=True), b.numpy(force=True)
        np.testing.assert_allclose(
            a, b, rtol=1e-9, atol=1e-9 * max(1.0, abs(b).max(initial=0)), err_msg=f"{seed}: {i}"
        )


@pytest.mark.parametrize("seed", [*range(25), 205])
def test_programs_that_read_images_in_several_ways(seed):
    check(seed)


def test_an_operand_of_a_convolution_that_a_product_reads_in_rows():
    x, w, v = mg.randn(2, 4, 4, 1), mg.randn(3, 4, 1, 1), mg.randn(4, 4)

    def f(x):
        image = (x * 2).tanh()
        return F.conv2d(image, w), image.reshape(8, 4) @ v

    for a, b in zip(mg.jit(f)(x), f(x)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)
