"""Watching changes nothing: not the losses, not the random numbers, and nothing stays behind."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from watch_models import Convolutions, Everything, FusedAttention, Language, TorchEncoder, batch, loss_of, train

import pitprop.watch

MODELS = {
    "custom transformer": lambda: Language(lambda: FusedAttention(0.1), dropout=0.1),
    "nn.TransformerEncoder": TorchEncoder,
    "cnn": Convolutions,
    "adapter, halves and ReLU": Everything,
}


def seeded(make):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  the global state is what must not change
    torch.manual_seed(0)
    model = make()
    return model, torch.optim.AdamW(model.parameters(), 1e-3)


def random_states():
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def same_states(a, b):
    return (
        a[0] == b[0] and all(np.array_equal(x, y) for x, y in zip(a[1], b[1], strict=True)) and torch.equal(a[2], b[2])
    )


def hooks(model, optimizer):
    """Number of hooks of every kind, everywhere a hook may hang."""
    modules = [
        len(getattr(m, name))
        for m in model.modules()
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    ]
    parameters = [
        len(getattr(p, name) or ())
        for p in model.parameters()
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks")
    ]
    steps = [len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)]
    of_torch = torch.nn.modules.module
    return modules, parameters, steps, len(of_torch._global_forward_hooks), len(of_torch._global_forward_pre_hooks)


def nothing_left(model, optimizer):
    modules, parameters, steps, *everywhere = hooks(model, optimizer)
    return (
        not any([*modules, *parameters, *steps, *everywhere])
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.utils._python_dispatch.is_in_torch_dispatch_mode()
    )


@pytest.mark.parametrize(
    ("name", "schedule"),
    [*((name, {"every": 7, "budget": None}) for name in MODELS), ("nn.TransformerEncoder", {})],
)
def test_losses_and_random_states_are_equal_bit_for_bit(name, schedule, tmp_path):
    model, optimizer = seeded(MODELS[name])
    plain = train(model, optimizer, 200)
    after = random_states()
    weights = [p.clone() for p in model.parameters()]

    model, optimizer = seeded(MODELS[name])
    with pitprop.watch(model, optimizer, run=tmp_path / "run", quiet=True, **schedule) as watch:
        watched = train(model, optimizer, 200, watch=watch)
    assert watched == plain
    assert same_states(random_states(), after)
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert model.training
    assert nothing_left(model, optimizer)
    assert watch.step == 200
    assert watch.findings == []
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, 1e-3, foreach=True),
        lambda p: torch.optim.AdamW(p, 1e-3, fused=True),
        lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=1e-3),
        lambda p: torch.optim.RMSprop(p, 1e-3),
        lambda p: torch.optim.Adafactor(p, 1e-3),
    ],
)
def test_the_optimizers_state_is_read_only(make, tmp_path):
    def run(folder=None):
        model, _ = seeded(Language)
        optimizer = make(model.parameters())
        if folder is None:
            return train(model, optimizer, 6), optimizer.state_dict()["state"]
        with pitprop.watch(model, optimizer, run=folder, every=2, budget=None, quiet=True) as watch:
            losses = train(model, optimizer, 6, watch=watch)
        assert not watch.findings
        return losses, optimizer.state_dict()["state"]

    plain, watched = run(), run(tmp_path / "run")
    assert plain[0] == watched[0] and plain[1].keys() == watched[1].keys()
    for ours, theirs in zip(plain[1].values(), watched[1].values(), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value is theirs[name] is None or torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[name]))


def test_an_unmeasured_step_carries_step_hooks_only(tmp_path):
    model, optimizer = seeded(Language)
    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=100, budget=None, quiet=True):
        modules, parameters, *_ = hooks(model, optimizer)
        assert any(modules) and any(parameters)
        train(model, optimizer, 1)
        modules, parameters, steps, *_ = hooks(model, optimizer)
        assert not any(modules) and not any(parameters) and steps == [1, 1]


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["loop", "forward", "backward"])
def test_nothing_stays_after_an_exception(error, where, tmp_path):
    model, optimizer = seeded(MODELS["nn.TransformerEncoder"])

    def fail(*_):
        raise error

    with (
        pytest.raises(error),
        pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True) as watch,
    ):
        train(model, optimizer, 2, watch=watch)
        if where == "forward":
            handle = model.encoder.layers[1].linear2.register_forward_hook(fail)
        if where == "backward":
            handle = model.head.weight.register_hook(fail)
        try:
            loss = loss_of(model, batch())
            if where == "loop":
                raise error
            loss.backward()
        finally:
            if where != "loop":
                handle.remove()
    assert nothing_left(model, optimizer)
    with pitprop.trace.Reader(tmp_path / "run") as reader:
        assert reader.last_step == 1


def test_a_swallowed_interrupt_leaves_no_mode_behind(tmp_path):
    model, optimizer = seeded(Language)

    def fail(*_):
        raise KeyboardInterrupt

    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        handle = model.head.register_forward_pre_hook(fail)
        with pytest.raises(KeyboardInterrupt):
            loss_of(model, batch())
        handle.remove()
        train(model, optimizer, 3, watch=watch)
    assert nothing_left(model, optimizer)


def test_an_evaluation_keeps_the_fast_path(tmp_path):
    torch.manual_seed(0)
    model, optimizer = seeded(TorchEncoder)
    ids = batch()

    def evaluate():
        model.eval()
        with torch.no_grad():
            out = model(ids)
        model.train()
        return out

    plain = evaluate()
    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        assert watch.sampling
        assert torch.equal(evaluate(), plain)
        train(model, optimizer, 1)
    assert watch._edge.num_forwards == 1


def test_other_dispatch_modes_see_only_the_models_operations(tmp_path):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Log(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    def operations(watched):
        model, optimizer = seeded(Language)
        with Log() as log:
            if watched:
                with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True):
                    loss_of(model, batch()).backward()
                    seen = list(log.seen)
            else:
                loss_of(model, batch()).backward()
                seen = list(log.seen)
        return seen

    with pytest.warns(RuntimeWarning, match="recorded nothing"):
        watched = operations(True)
    assert watched == operations(False)


def test_nothing_of_a_step_is_kept_alive(tmp_path):
    import gc
    import weakref

    model, optimizer = seeded(Language)
    alive = []
    with pitprop.watch(model, optimizer, run=tmp_path / "run", every=1, budget=None, quiet=True) as watch:
        for _ in range(2):
            logits = model(batch())
            loss = logits.square().mean()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss, outputs=logits)
            alive += [weakref.ref(logits), weakref.ref(loss)]
            del logits, loss
        gc.collect()
        assert [ref() for ref in alive] == [None] * 4


def test_compiled_model_is_equal_bit_for_bit_and_covered_honestly(tmp_path):
    def losses(folder=None):
        torch._dynamo.reset()
        model, _ = seeded(lambda: Language(dropout=0.1))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        compiled = torch.compile(model, backend="aot_eager")
        if folder is None:
            return train(compiled, optimizer, 8), None
        with pitprop.watch(compiled, optimizer, run=folder, every=2, budget=None, quiet=True) as watch:
            return train(compiled, optimizer, 8, watch=watch), watch

    plain, _ = losses()
    watched, watch = losses(tmp_path / "run")
    assert watched == plain
    with pitprop.trace.Reader(tmp_path / "run") as reader:
        coverage = reader.meta("coverage")
        assert "gradient_norm" in reader.indicators()
        assert "head" in reader.sites("gradient_norm")
        assert reader.sites("attention_entropy") == ("<model>", "<model>#2")
    assert coverage["compiled"] == ["<model>"]
    assert coverage["attention"]["unseen"] == ["blocks.0.attn", "blocks.1.attn"]
    assert any("compiled" in note for note in coverage["notes"])
    assert not [f for f in watch.findings if f.rule == "pitprop-internal"]


def test_the_first_import_draws_no_random_number():
    """rich does, when it is imported: only a fresh interpreter shows it."""
    code = (
        "import random, torch, pitprop.watch\n"
        "model = torch.nn.Linear(2, 2)\n"
        "optimizer = torch.optim.SGD(model.parameters())\n"
        "before = random.getstate()\n"
        "pitprop.watch(model, optimizer)\n"
        "assert 'rich.style' in __import__('sys').modules\n"
        "assert random.getstate() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_no_framework():
    code = "import sys, pitprop.watch; assert not {'torch', 'jax', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
