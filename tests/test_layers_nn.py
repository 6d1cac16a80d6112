"""The layers cases share: periodic padding, counter-based random numbers, corruption."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from kilonode.cases import layers
from kilonode.cases.layers import Corruption, PeriodicConv2d, pad_periodic, uniform

WORD = 2**64


def splitmix64(state: int, count: int) -> list[int]:
    """Vigna's splitmix64.c in Python integers."""
    found = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
        found.append(z ^ (z >> 31))
    return found


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# padding


@pytest.mark.parametrize("mode_other", ["zero", "edge"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_periodic_convolution_commutes_with_shifts(stride, mode_other):
    x, weight = noise(2, 3, 8, 24), noise(5, 3, 5, 5)

    def f(x, axes):
        return functional.conv2d(pad_periodic(x, (2, 2), axes, mode_other), weight, stride=stride)

    for shift in (stride, 3 * stride, -stride):
        rolled, expected = f(x.roll(shift, -1), (-1,)), f(x, (-1,)).roll(shift // stride, -1)
        torch.testing.assert_close(rolled, expected, rtol=1e-5, atol=1e-5)
        broken = (f(x.roll(shift, -1), ()) - f(x, ()).roll(shift // stride, -1)).abs().max()
        assert broken > 0.1


def test_all_axes_of_a_mesh_may_be_periodic():
    x, weight = noise(1, 1, 4, 6, 8), noise(2, 1, 3, 3, 3)

    def f(x):
        return functional.conv3d(pad_periodic(x, (1, 1, 1), (2, 3, 4)), weight)

    torch.testing.assert_close(f(x.roll((1, 2, 3), (2, 3, 4))), f(x).roll((1, 2, 3), (2, 3, 4)), rtol=1e-5, atol=1e-5)


def test_padding_gives_these_numbers():
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert pad_periodic(x, [(1, 2)], (-1,)).tolist() == [[[3, 1, 2, 3, 1, 2]]]
    assert pad_periodic(x, [(1, 2)], ()).tolist() == [[[0, 1, 2, 3, 0, 0]]]
    assert pad_periodic(x, [(1, 2)], (), "edge").tolist() == [[[1, 1, 2, 3, 3, 3]]]
    assert pad_periodic(x, [0], (-1,)) is x


def test_padding_wider_than_the_axis_goes_around_again():
    x = torch.tensor([[[1.0, 2.0]]])
    assert pad_periodic(x, [5], (2,)).flatten().tolist() == [2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]


def test_corners_of_two_periodic_axes_wrap_both_ways():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (2, 2)), mode="wrap")
    np.testing.assert_array_equal(pad_periodic(x, (1, 2), (2, 3)).numpy(), expected)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'zero' or 'edge', got 'wrap'"):
        pad_periodic(noise(1, 1, 3), [1], (), "wrap")


@pytest.mark.parametrize("stride", [1, 2])
def test_the_layer_equals_padding_then_convolving(stride):
    x = noise(2, 3, 7, 12)
    layer = PeriodicConv2d(3, 4, 5, stride)
    expected = functional.conv2d(pad_periodic(x, (2, 2), (-1,)), layer.conv.weight, layer.conv.bias, stride=stride)
    torch.testing.assert_close(layer(x), expected)
    plain = PeriodicConv2d(3, 4, 5, stride, periodic=False)
    expected = functional.conv2d(x, plain.conv.weight, plain.conv.bias, stride=stride, padding=2)
    torch.testing.assert_close(plain(x), expected)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd size to keep the width, got 4"):
        PeriodicConv2d(1, 1, 4)


# random numbers


def test_the_generator_is_splitmix64():
    # First outputs of splitmix64.c for state 1234567, as published with it.
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]
    for key in (0, 1, -1, 2**62, -(2**63)):
        state = splitmix64(key % WORD, 1)[0]
        expected = [(word >> 40) * 2.0**-24 for word in splitmix64(state, 7)]
        assert uniform(torch.tensor([key]), 7)[0].tolist() == expected


def test_the_shift_does_not_copy_the_sign():
    assert layers._shift(torch.tensor([-1]), 63).item() == 1


def test_numbers_are_uniform():
    found = uniform(torch.arange(2000), 100)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() < 1
    assert stats.kstest(found.flatten().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(found[:, 0].numpy(), "uniform").pvalue > 0.01  # over keys alone


def test_numbers_of_neighbouring_keys_and_places_are_unrelated():
    found = uniform(torch.arange(2000), 50).numpy()
    limit = 4 / np.sqrt(found[1:].size)
    assert abs(np.corrcoef(found[1:].ravel(), found[:-1].ravel())[0, 1]) < limit
    assert abs(np.corrcoef(found[:, 1:].ravel(), found[:, :-1].ravel())[0, 1]) < limit
    assert abs(np.corrcoef(found[1:, :-1].ravel(), found[:-1, 1:].ravel())[0, 1]) < limit


def test_numbers_depend_on_the_key_alone():
    keys = torch.tensor([5, -3, 2**60])
    together = uniform(keys, 11)
    for key, row in zip(keys, together, strict=True):
        assert torch.equal(uniform(key[None], 11)[0], row)
    assert torch.equal(uniform(keys.flip(0), 11).flip(0), together)
    assert torch.equal(uniform(keys, 5), together[:, :5])


# corruption


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_share_of_lost_pixels_is_within_three_sigma(per_channel):
    rate, x = 1 / 3, torch.ones(500, 2, 8, 24)
    lost = Corruption(rate, per_channel)(x, torch.arange(500)) == 0
    drawn = lost.numel() if per_channel else lost.numel() / 2
    assert abs(lost.float().mean().item() - rate) < 3 * np.sqrt(rate * (1 - rate) / drawn)


def test_kept_pixels_keep_their_value():
    x = noise(50, 2, 8, 24).abs() + 0.1
    seen = Corruption(0.3)(x, torch.arange(50))
    assert torch.equal(seen[seen != 0], x[seen != 0])


def test_a_shared_mask_hides_the_same_pixels_of_all_channels():
    x, key = torch.ones(20, 2, 8, 24), torch.arange(20)
    shared, independent = Corruption(0.3)(x, key), Corruption(0.3, per_channel=True)(x, key)
    assert torch.equal(shared[:, 0], shared[:, 1])
    differ = (independent[:, 0] != independent[:, 1]).float().mean().item()
    assert differ == pytest.approx(2 * 0.3 * 0.7, abs=0.05)


def test_corruption_is_off_in_evaluation():
    x, layer = noise(4, 1, 3, 3), Corruption(0.5).eval()
    assert layer(x, torch.arange(4)) is x


def test_a_mask_is_a_function_of_the_key_alone():
    x, layer = torch.ones(6, 1, 5, 5), Corruption(0.5)
    whole = layer(x, torch.arange(6))
    assert torch.equal(layer(x[:2], torch.tensor([4, 1])), whole[[4, 1]])
    assert not torch.equal(layer(x, torch.arange(6, 12)), whole)


def test_corruption_leaves_other_generators_alone():
    before = torch.get_rng_state()
    Corruption(0.5)(torch.ones(3, 1, 2, 2), torch.arange(3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="0 <= rate < 1"):
        Corruption(rate)
