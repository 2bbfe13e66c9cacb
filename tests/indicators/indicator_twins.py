"""For every indicator: how to make its arguments, and the same measure once more, naively, in float64 loops."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import torch

FRAMEWORKS: dict[str, Callable] = {"numpy": np.asarray, "torch": torch.asarray, "jax": jnp.asarray}
DTYPES = {
    ("numpy", "float64"): np.float64,
    ("numpy", "float32"): np.float32,
    ("numpy", "float16"): np.float16,
    ("torch", "float64"): torch.float64,
    ("torch", "float32"): torch.float32,
    ("torch", "float16"): torch.float16,
    ("torch", "bfloat16"): torch.bfloat16,
    ("jax", "float32"): jnp.float32,
    ("jax", "bfloat16"): jnp.bfloat16,
}


@dataclass(frozen=True)
class Twin:
    """Arguments for an indicator (float64 numpy, no batch axis), its naive twin, and how both are called."""

    arguments: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    naive: Callable
    kwargs: tuple[tuple[str, object], ...] = ()
    as_list: bool = False

    def call(self, function, arrays):
        """`function` of `arrays`, compiled in jax: that a measure can be is part of its contract."""
        bound = _bind(self, function)
        return (_compile(bound) if any(isinstance(x, jax.Array) for x in arrays) else bound)(*arrays)


@cache
def _bind(twin, function):
    return lambda *arrays: function(*((list(arrays),) if twin.as_list else arrays), **dict(twin.kwargs))


_compile = cache(jax.jit)


def entropy(p) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def softmax(s):
    e = [math.exp(x - max(s)) for x in s]
    return [x / sum(e) for x in e]


def attention_entropy(weights):
    return np.mean([entropy(row / row.sum()) / math.log(len(row)) for row in weights])


def _logits(q, k):
    group = q.shape[0] // k.shape[0]
    return [[[qi @ kj / math.sqrt(q.shape[-1]) for kj in k[h // group]] for qi in q[h]] for h in range(q.shape[0])]


def attention_entropy_qk(q, k):
    n = math.log(k.shape[-2])
    return np.array([np.mean([entropy(softmax(row)) / n for row in head]) for head in _logits(q, k)])


def attention_logit_scale(q, k):
    critical = math.sqrt(2 * math.log(k.shape[-2]))
    return np.array([np.mean([np.std(row) / critical for row in head]) for head in _logits(q, k)])


def token_cosine(x):
    return np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(x, 2)])


def effective_rank(x):
    s = np.sqrt(np.maximum(np.linalg.eigvalsh(x @ x.T if len(x) < x.shape[1] else x.T @ x), 0))
    return math.exp(entropy(s / s.sum()))


def stable_rank(x):
    return (x**2).sum() / np.linalg.norm(x, 2) ** 2


def output_uniqueness(x):
    near = 1e-2 * math.sqrt(np.mean([row @ row for row in x]))
    return sum(all(np.linalg.norm(x[i] - x[j]) > near for j in range(i)) for i in range(len(x))) / len(x)


def output_spread(x, y):
    return np.mean([np.linalg.norm(a - b) for a, b in combinations(x, 2)]) / np.mean(
        [np.linalg.norm(a - b) for a, b in combinations(y, 2)]
    )


def wasserstein_distance(a, b):
    grid = np.sort(np.concatenate([a, b]))
    return sum((right - left) * abs((a <= left).mean() - (b <= left).mean()) for left, right in pairwise(grid))


def _marginals(logits, labels):
    """Shares of the labels, of the answers and of the mean softmax, and the cross-entropy, sample by sample."""
    kept = [(softmax(x), int(y)) for x, y in zip(logits, labels, strict=True) if y >= 0]
    classes = range(logits.shape[-1])
    true = np.array([np.mean([y == c for _, y in kept]) for c in classes])
    answers = np.array([np.mean([max(classes, key=p.__getitem__) == c for p, _ in kept]) for c in classes])
    predicted = np.mean([p for p, _ in kept], axis=0)
    return true, answers, predicted, np.mean([-math.log(p[y]) for p, y in kept])


def class_entropy_ratio(logits, labels):
    true, answers, *_ = _marginals(logits, labels)
    return entropy(answers) / entropy(true)


def class_loss_ratio(logits, labels):
    true, _, _, loss = _marginals(logits, labels)
    return loss / entropy(true)


def class_divergence(logits, labels):
    true, _, predicted, _ = _marginals(logits, labels)
    return sum(p * math.log(p / q) for p, q in zip(true, predicted, strict=True) if p)


def certain_share(logits, resolution):
    return np.mean([sum(sorted(math.exp(s - max(row)) for s in row)[:-1]) <= resolution for row in logits])


def logit_rounding(logits):
    return np.mean([abs(math.log(sum(math.exp(s) for s in row))) for row in logits]) * 2.0**-24


def embedding_spread(z):
    u = [row / np.linalg.norm(row) for row in z]
    return math.sqrt(1 - np.linalg.norm(np.mean(u, axis=0)) ** 2)


def embedding_rank(z):
    samples, width = len(z) - 1, z.shape[-1]
    g = min(samples, width) / max(samples, width)
    low, high = (1 - math.sqrt(g)) ** 2, (1 + math.sqrt(g)) ** 2

    def mean(function):
        def density(x):
            return math.sqrt((high - x) * (x - low)) / (2 * math.pi * g * x) * function(math.sqrt(x))

        return scipy.integrate.quad(density, low, high, limit=200)[0]

    first = mean(lambda s: s)
    noise = min(samples, width) * first * math.exp(-mean(lambda s: s * math.log(s)) / first)
    return effective_rank(z - z.mean(0)) / noise


def code_usage(codes, num_codes):
    return len(set(codes.tolist())) / sum(1 - (1 - 1 / num_codes) ** len(codes) for _ in range(num_codes))


def latent_kl(mean, log_variance):
    return np.mean([
        sum((m * m + math.exp(v) - 1 - v) / 2 for m, v in zip(*row, strict=True))
        for row in zip(mean, log_variance, strict=True)
    ])  # fmt: skip


def teacher_information(p):
    """As a mutual information, from the joint distribution of sample and class."""
    joint = np.array([row / row.sum() for row in p]) / len(p)
    independent = np.outer(joint.sum(1), joint.sum(0))
    pairs = zip(joint.ravel(), independent.ravel(), strict=True)
    return sum(j * math.log(j / i) for j, i in pairs if j) / math.log(min(p.shape))


def load_chi_squared(w):
    load = sum(row / row.sum() for row in w)
    fair = len(w) / len(load)
    return sum((x - fair) ** 2 / fair for x in load) / (len(load) - 1)


def loss_weight_alignment(before, after, losses):
    return -np.corrcoef(after / after.sum() - before / before.sum(), losses)[0, 1]


def attention_sink(weights):
    fair = 1 / weights.shape[-1]
    return np.mean([(row[0] / row.sum() - fair) / (1 - fair) for row in weights])


def attention_logit_peak(logits):
    return max((max(row) - np.mean(row)) / (2 * math.log(len(row))) for row in logits)


def head_redundancy(weights):
    heads = [head - head.mean(axis=-1, keepdims=True) for head in weights]
    return np.mean([(a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(heads, 2)])


def _normal(*shapes):
    return lambda rng: tuple(rng.normal(size=shape) for shape in shapes)


def _positive(*shapes):
    return lambda rng: tuple(rng.uniform(0.01, 1, size=shape) for shape in shapes)


def cosine(a, b):
    return (a * b).sum() / np.linalg.norm(a.ravel()) / np.linalg.norm(b.ravel())


def rotation(before, after, lr, weight_decay):
    return math.acos(cosine(before, after)) / math.sqrt(2 * lr * weight_decay)


def _units(rng):
    x = np.maximum(rng.normal(size=(9, 6)), 0)
    x[:, [1, 4]] = 0
    return (x,)


def _weights_that_partly_moved(rng):
    before, gradient = rng.normal(size=(2, 4, 5))
    gradient[-1] = 0
    return before, before * (1 + (rng.random((4, 5)) < 0.5)), gradient


def _adapter(rng):
    return rng.normal(size=(6, 2)), rng.normal(size=(2, 5)), rng.uniform(0.5, 2, size=())


def _tensors(rng):
    return rng.uniform(0.1, 1, size=5) * np.array([1, 0, 1, 0, 1]), rng.integers(1, 9, size=5).astype(float)


def _with_repeats(rng):
    rows = rng.normal(size=(6, 5))
    return (rows[[0, 1, 2, 1, 3, 4, 5, 5, 1]],)


def _classified(rng):
    return rng.normal(size=(9, 4)), np.append(rng.integers(0, 4, size=7), [-1, 0]).astype(float)


TWINS: dict[str, Twin] = {
    "activation_peak": Twin(_normal((5, 7)), lambda x: abs(x).max() / sorted(abs(x).ravel())[17]),
    "attention_logit_peak": Twin(_normal((5, 7)), attention_logit_peak),
    "attention_sink": Twin(_positive((5, 7)), attention_sink),
    "certain_share": Twin(lambda rng: (9 * rng.normal(size=(9, 4)),), certain_share, kwargs=(("resolution", 1e-3),)),
    "class_divergence": Twin(_classified, class_divergence),
    "class_entropy_ratio": Twin(_classified, class_entropy_ratio),
    "class_loss_ratio": Twin(_classified, class_loss_ratio),
    "code_usage": Twin(lambda rng: (rng.integers(0, 6, size=9).astype(float),), code_usage, kwargs=(("num_codes", 6),)),
    "embedding_rank": Twin(_normal((9, 5)), embedding_rank),
    "embedding_spread": Twin(lambda rng: (rng.normal(size=(9, 5)) + 1,), embedding_spread),
    "gradient_cosine": Twin(_normal((7,), (7,)), lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
    "head_redundancy": Twin(_positive((3, 5, 7)), head_redundancy),
    "latent_active_share": Twin(
        lambda rng: (rng.normal(size=(9, 5)) * [1, 0.05, 1, 0.02, 1],), lambda m: np.mean(m.var(axis=0) > 0.01)
    ),
    "latent_kl": Twin(_normal((9, 5), (9, 5)), latent_kl),
    "load_chi_squared": Twin(_positive((9, 4)), load_chi_squared),
    "load_entropy": Twin(
        _positive((9, 4)), lambda w: entropy(np.mean([row / row.sum() for row in w], axis=0)) / math.log(w.shape[-1])
    ),
    "logit_rounding": Twin(_normal((9, 4)), logit_rounding),
    "loss_weight_alignment": Twin(_positive((6,), (6,), (6,)), loss_weight_alignment),
    "teacher_entropy": Twin(
        _positive((9, 4)), lambda p: np.mean([entropy(row / row.sum()) / math.log(len(row)) for row in p])
    ),
    "teacher_information": Twin(_positive((9, 4)), teacher_information),
    "adapter_ratio": Twin(_adapter, lambda b, a, w: np.linalg.norm(b @ a, 2) / w),
    "attention_entropy": Twin(_positive((5, 7)), attention_entropy),
    "attention_entropy_qk": Twin(_normal((4, 6, 8), (2, 9, 8)), attention_entropy_qk),
    "attention_logit_scale": Twin(_normal((4, 6, 8), (2, 9, 8)), attention_logit_scale),
    "branch_ratio": Twin(
        _normal((3, 4, 5), (3, 4, 5)),
        lambda b, x: np.mean(
            [np.linalg.norm(i.ravel()) / np.linalg.norm(j.ravel()) for i, j in zip(b, x, strict=True)]
        ),
    ),
    "dead_share": Twin(_units, lambda x: np.mean([all(v == 0 for v in unit) for unit in x.T])),
    "displacement_ratio": Twin(
        _normal((4, 5)),
        lambda w, lr, steps: math.sqrt((w**2).mean()) / (lr * math.sqrt(steps)),
        kwargs=(("lr", 0.01), ("steps", 100)),
    ),
    "effective_rank": Twin(_normal((7, 5)), effective_rank),
    "gradient_norm": Twin(_normal((4, 3), (2, 3)), lambda g: math.sqrt(sum((x**2).sum() for x in g)), as_list=True),
    "gradient_share": Twin(_positive((6,)), lambda g: g**2 / (g**2).sum()),
    "lost_update_share": Twin(
        _weights_that_partly_moved,
        lambda old, new, g: np.mean([a == b for a, b, c in zip(old.ravel(), new.ravel(), g.ravel(), strict=True) if c]),
    ),
    "momentum_alignment": Twin(_normal((4, 5), (4, 5)), cosine),
    "output_spread": Twin(_normal((9, 5), (9, 5)), output_spread),
    "output_uniqueness": Twin(_with_repeats, output_uniqueness),
    "rotation_ratio": Twin(_normal((4, 5), (4, 5)), rotation, kwargs=(("lr", 0.1), ("weight_decay", 0.2))),
    "saturated_share": Twin(
        lambda rng: (np.tanh(3 * rng.normal(size=(8, 9))),),
        lambda y, kind: np.mean([1 - v * v < 0.01 for v in y.ravel()]),
        kwargs=(("kind", "tanh"),),
    ),
    "second_moment_ratio": Twin(
        _positive((4, 5), (4, 5)),
        lambda g, v: math.sqrt(np.mean([a * a / b for a, b in zip(g.ravel(), v.ravel(), strict=True)])),
    ),
    "shrinkage": Twin(_normal((4, 5), (4, 5)), lambda u, w: -cosine(u, w)),
    "simplex_concentration": Twin(_positive((6,)), lambda w: 1 - entropy(w / w.sum()) / math.log(len(w))),
    "stable_rank": Twin(_normal((7, 5)), stable_rank),
    "starved_share": Twin(
        _positive((4, 5)),
        lambda v, eps: np.mean([math.sqrt(x) < 10 * eps for x in v.ravel()]),
        kwargs=(("eps", 0.0567),),
    ),
    "step_scale": Twin(_normal((4, 5)), lambda u, lr: math.sqrt((u**2).mean()) / lr, kwargs=(("lr", 0.01),)),
    "stream_growth": Twin(_positive((6,)), lambda x: x[-1] / x[0] / math.sqrt(6)),
    "token_cosine": Twin(_normal((8, 5)), token_cosine),
    "total_variation": Twin(_positive((6,), (6,)), lambda p, q: abs(p / p.sum() - q / q.sum()).sum() / 2),
    "update_ratio": Twin(_normal((4, 5), (4, 5)), lambda u, w: math.sqrt((u**2).sum() / (w**2).sum())),
    "wasserstein_distance": Twin(_normal((7,), (11,)), wasserstein_distance),
    "zero_gradient_share": Twin(_tensors, lambda g, n: sum(n[i] for i in range(5) if g[i] == 0) / sum(n)),
}
