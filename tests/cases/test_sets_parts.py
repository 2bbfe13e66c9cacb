"""Pieces of the set diffusion against what they are said to be, without any training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pitprop._errors import PitpropError
from pitprop.cases.set_diffusion import data, dit, encoder, schedule


def test_a_context_holds_the_others_alone():
    found = data.leave_one_out(7)
    assert found.shape == (7, 6)
    for i, others in enumerate(found):
        assert sorted([i, *others]) == list(range(7))


def test_classes_are_split_and_images_are_not_shared():
    split = data.digits()
    assert sorted(split.train) == sorted(split.validation) == list(range(7)) and sorted(split.novel) == [7, 8, 9]
    for k in range(7):
        seen = {image.tobytes() for image in split.train[k]}
        assert not seen & {image.tobytes() for image in split.validation[k]}
    images = np.concatenate([*split.train.values(), *split.novel.values()])
    assert images.shape[1:] == (1, 8, 8) and (images.min(), images.max()) == (-1, 1)


def test_batches_are_a_function_of_seed_and_cursor():
    def batch(seed, cursor, skip=0):
        found = data.sets(data.digits().train, seed, cursor, num_sets=3, set_size=7)
        for _ in range(skip):
            next(found)
        return next(found)

    np.testing.assert_array_equal(batch(1, 5), batch(1, 3, skip=2))
    assert (batch(1, 5) != batch(2, 5)).any()
    assert len({image.tobytes() for image in batch(1, 0)[0]}) == 7


def test_rolled_evaluation_sets_are_of_another_class():
    by_class = {k: np.full((9, 1, 1, 1), k, np.float32) for k in range(3)}
    found = data.balanced_sets(by_class, repeats=2, set_size=7)[:, 0, 0, 0, 0]
    assert (found != np.roll(found, 1)).all() and (found != np.roll(found, 2)).all()


def test_a_class_too_small_for_a_set_is_explained():
    with pytest.raises(PitpropError, match="A set needs 7 images of one class, and there are 2"):
        data.draw_set(np.zeros((2, 1)), 7, np.random.default_rng(0))


def test_noise_levels_are_those_of_a_product_in_loops():
    steps, kept = 250, 1.0
    for t in range(steps):
        kept *= 1 - 4 * (1e-4 + (0.02 - 1e-4) * t / (steps - 1))
        if t in (0, 100, 249):
            np.testing.assert_allclose(schedule.alphas_bar(steps)[t], kept, rtol=1e-10)
    x, noise = jnp.ones((1, 2)), jnp.zeros((1, 2))
    found = schedule.q_sample(x, jnp.array([100]), noise, steps)
    np.testing.assert_allclose(found, np.sqrt(schedule.alphas_bar(steps)[100]), rtol=1e-5)


def test_too_few_levels_are_explained():
    with pytest.raises(PitpropError, match="20 diffusion steps are too few"):
        schedule.betas(20)


def test_sampling_with_the_true_noise_gives_the_image():
    kept = jnp.asarray(schedule.alphas_bar(40))
    image = 0.3

    def predict(x, t):
        return (x - jnp.sqrt(kept[t])[:, None] * image) / jnp.sqrt(1 - kept[t])[:, None]

    found = schedule.sample(predict, jax.random.key(0), (4, 3), 40)
    np.testing.assert_allclose(found, image, atol=1e-5)


def test_shifts_really_shift():
    x = jnp.arange(16.0).reshape(1, 1, 4, 4)
    found = np.asarray(encoder.shifted(x))[0]
    assert found.shape == (5, 4, 4)
    np.testing.assert_array_equal(found[0], x[0, 0])
    np.testing.assert_array_equal(found[1][:, 1:], x[0, 0, :, :-1])  # to the right, zeros come in
    assert (found[1][:, 0] == 0).all()
    np.testing.assert_array_equal(found[4][:-1], x[0, 0, 1:])  # up


def test_patches_are_squares_row_by_row():
    found = encoder.patchify(jnp.arange(16.0).reshape(1, 1, 4, 4), 2)
    np.testing.assert_array_equal(found[0], [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]])


def test_positions_tell_all_tokens_apart():
    found = dit.positions(16, 32)
    distance = np.linalg.norm(found[:, None] - found, axis=-1)
    assert found.shape == (16, 32) and distance[~np.eye(16, dtype=bool)].min() > 0.1


def test_the_seeds_initialisations():
    key = jax.random.key(0)
    spread = {name: float(dit.initialiser(name)(key, (400, 100)).std()) for name in ("zero", "normal", "scaled")}
    np.testing.assert_allclose([spread["zero"], spread["normal"]], [0, 0.02], rtol=0.03)
    np.testing.assert_allclose(spread["scaled"], np.sqrt(0.02 / 400), rtol=0.03)
