"""BLEU: how many runs of words a text shares with reference texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError
from .base import Metric

# Tokens as the mteval-v13a script of NIST makes them: punctuation apart, but not within numbers.
_13A = [
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def tokenize_13a(text: str) -> list[str]:
    """Words and punctuation of a text.

    >>> tokenize_13a("It costs 3.50, doesn't it?")
    ['It', 'costs', '3.50', ',', "doesn't", 'it', '?']
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, sign in _ENTITIES:
            text = text.replace(entity, sign)
    text = f" {text} "
    for pattern, replacement in _13A:
        text = pattern.sub(replacement, text)
    return text.split()


class BLEU(Metric):
    """BLEU of a corpus, from 0 to 100: the geometric mean of the shares of n-grams that occur in a
    reference, times a penalty for texts that are too short.

    n_gram     longest runs of words that count
    smooth     "exp": an n that has no hit counts as half of a hit, the next as a quarter, ...
               "none": BLEU is 0 then
    tokenize   "13a", "none" (split at blanks), or a function text -> list of tokens
    lowercase  compare in lower case

    update(preds, references): texts, and for each the list of its references (or one text).

    Source: Papineni et al., "BLEU" (2002); Post, "A Call for Clarity in Reporting BLEU Scores"
    (2018), with whose scorer the values agree.

    >>> bleu = BLEU()
    >>> bleu.update(["the cat sat on the mat"], [["the cat sat on a mat"]])
    >>> round(bleu.compute(), 2)
    53.73
    """

    def __init__(
        self,
        n_gram: int = 4,
        smooth: str = "exp",
        tokenize: str | Callable[[str], Sequence[str]] = "13a",
        lowercase: bool = False,
    ):
        if n_gram < 1:
            raise ArgumentError(f"BLEU: n_gram must be at least 1, got {n_gram}")
        if smooth not in ("exp", "none"):
            raise ArgumentError(f'BLEU: smooth must be "exp" or "none", got {smooth!r}')
        if not callable(tokenize) and tokenize not in ("13a", "none"):
            raise ArgumentError(f'BLEU: tokenize must be "13a", "none" or a function, '
                                f"got {tokenize!r}")  # fmt: skip
        self.n_gram, self.smooth = n_gram, smooth
        self.tokenize, self.lowercase = tokenize, lowercase
        super().__init__()

    def _initial(self):
        zeros = np.zeros(self.n_gram, dtype=np.int64)
        return {"hits": zeros, "total": zeros, "length": 0, "reference_length": 0}

    def _tokens(self, text: Any) -> list[str]:
        if not isinstance(text, str):
            raise ArgumentTypeError(f"BLEU: expected a text, got {type(text).__name__}")
        text = text.lower() if self.lowercase else text
        if callable(self.tokenize):
            return list(self.tokenize(text))
        return tokenize_13a(text) if self.tokenize == "13a" else text.split()

    def update(self, preds, references) -> None:
        preds, references = list(preds), list(references)
        if len(preds) != len(references):
            raise ArgumentError(
                f"BLEU: {len(preds)} texts need as many lists of references, got {len(references)}"
            )
        hits, total = self.hits.copy(), self.total.copy()
        for text, own in zip(preds, references):
            tokens = self._tokens(text)
            others = [self._tokens(r) for r in ([own] if isinstance(own, str) else own)]
            if not others:
                raise ArgumentError("BLEU: a text has no references")
            self.length += len(tokens)
            # The reference of the nearest length; of two as near the shorter.
            self.reference_length += min((abs(len(r) - len(tokens)), len(r)) for r in others)[1]
            for n in range(1, self.n_gram + 1):
                found = _grams(tokens, n)
                most: Counter = Counter()
                for r in others:
                    most |= _grams(r, n)
                hits[n - 1] += sum((found & most).values())
                total[n - 1] += sum(found.values())
        self.hits, self.total = hits, total

    def compute(self) -> float:
        if not self.length:
            return float("nan") if not self.reference_length else 0.0
        logs, factor = 0.0, 1.0
        for hits, total in zip(self.hits.tolist(), self.total.tolist()):
            if not total:
                return 0.0
            if not hits:
                if self.smooth == "none":
                    return 0.0
                factor *= 2.0
                logs += math.log(1.0 / (factor * total))
            else:
                logs += math.log(hits / total)
        short = min(0.0, 1.0 - self.reference_length / self.length)
        if not self.hits.any():
            return 0.0
        return 100.0 * math.exp(short + logs / self.n_gram)


def _grams(tokens: list[str], n: int) -> Counter:
    return Counter(zip(*(tokens[i:] for i in range(n))))
