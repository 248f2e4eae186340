import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model import network
from model.network import LARGEST_INPUT, Shape, clipped_sum, clipped_sum_opacus, device, init, predict

torch.set_num_threads(1)

SHAPES = [Shape(5, ()), Shape(7, (6,)), Shape(4, (5, 3))]
ENGINES = [clipped_sum, clipped_sum_opacus]
ROOT = Path(__file__).parents[2]


def parameters(shape, rng, scale=0.5):
    return init(shape, rng) + scale * rng.standard_normal(shape.size)


def batch(rng, rows, columns):
    x = rng.standard_normal((rows, columns))
    x /= np.maximum(1.0, np.linalg.norm(x, axis=1))[:, None]
    return x, rng.integers(0, 2, rows).astype(float)


def probability(logits):
    return 1.0 / (1.0 + np.exp(-logits))


def by_hand(theta, x, shape):
    """The logits in plain numpy, one layer after the other."""
    value, start = x, 0
    for index, (out, into) in enumerate(shape.layers):
        weight = theta[start : start + out * into].reshape(out, into)
        bias = theta[start + out * into : start + out * (into + 1)]
        value = value @ weight.T + bias
        value = np.tanh(value) if index < len(shape.layers) - 1 else value
        start += out * (into + 1)
    return value[:, 0]


def row_by_row(theta, x, y, shape, clip_norm):
    """The oracle: torch's autograd on one person at a time, clipped and added."""
    total = np.zeros(shape.size)
    for row, target in zip(x, y, strict=True):
        flat = torch.tensor(theta, requires_grad=True)
        value, start = torch.tensor(row), 0
        for index, (out, into) in enumerate(shape.layers):
            weight = flat[start : start + out * into].view(out, into)
            value = weight @ value + flat[start + out * into : start + out * (into + 1)]
            value = torch.tanh(value) if index < len(shape.layers) - 1 else value
            start += out * (into + 1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(value, torch.tensor([target]), reduction="sum")
        gradient = torch.autograd.grad(loss, flat)[0].numpy()
        total += gradient * min(1.0, clip_norm / np.linalg.norm(gradient))
    return total


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_of_a_single_logistic_layer_the_sum_is_the_closed_form():
    rng = np.random.default_rng(1)
    shape, theta = Shape(5, ()), rng.standard_normal(6)
    x, y = batch(rng, 40, 5)
    ones = np.column_stack([x, np.ones(40)])
    error = probability(ones @ theta) - y
    norms = np.abs(error) * np.linalg.norm(ones, axis=1)
    expected = (ones * (error * np.minimum(1.0, 0.5 / norms))[:, None]).sum(0)
    assert (norms < 0.5).any()
    assert (norms > 0.5).any()
    np.testing.assert_allclose(clipped_sum(theta, x, y, shape, 0.5), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "clip_norm"), [(1, 0.05), (1, 100.0), (2, 0.7), (60, 0.05), (60, 100.0), (600, 0.7)])
def test_t2_the_sum_is_that_of_autograd_on_one_person_at_a_time(shape, rows, clip_norm):
    rng = np.random.default_rng(2)
    theta, (x, y) = parameters(shape, rng), batch(rng, rows, shape.columns)
    y[: rows // 6] = rng.uniform(-0.6, 1.6, rows // 6)
    assert distance(clipped_sum(theta, x, y, shape, clip_norm), row_by_row(theta, x, y, shape, clip_norm)) < 1e-10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "clip_norm"), [(1, 0.5), (1, 100.0), (33, 0.5), (200, 100.0), (1100, 0.5)])
def test_t2_the_sum_is_that_of_opacus(shape, rows, clip_norm):
    rng = np.random.default_rng(3)
    theta, (x, y) = parameters(shape, rng), batch(rng, rows, shape.columns)
    x[7:8], y[9:10] = np.nan, np.nan
    own, theirs = (engine(theta, x, y, shape, clip_norm) for engine in ENGINES)
    assert distance(own, theirs) < 1e-5


def neighbours(rng, columns):
    """A batch and the index of one person in it: random rows, and rows that somebody made to do harm."""
    rows = int(rng.choice([1, 2, 3, 33, 150]))
    x, y = batch(rng, rows, columns)
    i = int(rng.integers(rows))
    scale = rng.choice([1e-3, 1.0, 1e3, 1e6, 1e30, 1e150, 1e200, 5e-324, 1e-310, 0.0])
    x[i] *= scale
    match int(rng.integers(8)):
        case 0:
            x[i, rng.integers(columns)] = rng.choice([np.inf, -np.inf, np.nan, 1.7e308, LARGEST_INPUT, -0.0])
        case 1:
            x[:] = x[i]
        case 2:
            y[i] = rng.choice([np.nan, np.inf, -1.0, 1e300, 0.5])
        case 3:
            x[:, :] = rng.choice([np.nan, 0.0, LARGEST_INPUT, 1e200])
        case 4:
            x[i], y[i] = x[0], 1.0 - y[0]
    return x, y, i


@pytest.mark.parametrize("shape", SHAPES)
def test_t1_one_person_moves_the_sum_by_at_most_the_clip_norm_at_any_shape_and_clip_norm(shape):
    """A thousand more at one shape, and every other model, are in test_sensitivity.py."""
    rng = np.random.default_rng(4)
    furthest = 0.0
    for _ in range(120):
        theta = parameters(shape, rng, scale=rng.choice([0.0, 0.5, 10.0, 1e4]))
        clip_norm = float(rng.choice([1e-6, 0.1, 1.0, 1e6]))
        x, y, i = neighbours(rng, shape.columns)
        with_person = clipped_sum(theta, x, y, shape, clip_norm)
        assert np.isfinite(with_person).all()
        y_null = np.where(np.arange(len(y)) == i, np.nan, y)
        for without in (
            clipped_sum(theta, np.delete(x, i, 0), np.delete(y, i), shape, clip_norm),
            clipped_sum(theta, x, y_null, shape, clip_norm),
        ):
            moved = float(np.linalg.norm(with_person - without)) / clip_norm
            assert moved <= 1.0 + 1e-9
            furthest = max(furthest, moved)
    assert furthest > 1.0 - 1e-9, "no neighbour reached the bound: the test is blind"


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_t1_the_bound_holds_in_a_large_batch_where_rounding_adds_up(scale):
    rng = np.random.default_rng(5)
    shape = Shape(50, (16,))
    theta, (x, y) = parameters(shape, rng), batch(rng, 5000, 50)
    x, y = scale * x, np.zeros(5000)
    for i in (0, 1, 2047, 2048, 4999):
        whole, less = (
            clipped_sum(theta, *rows, shape, 0.1) for rows in ((x, y), (np.delete(x, i, 0), np.delete(y, i)))
        )
        assert np.linalg.norm(whole - less) <= 0.1 * (1 + 1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200, 1.01 * LARGEST_INPUT])
def test_t1_a_row_out_of_range_counts_as_exactly_zero_and_harms_no_other(engine, bad):
    rng = np.random.default_rng(6)
    shape = SHAPES[1]
    theta, (x, y) = parameters(shape, rng), batch(rng, 20, 7)
    absent = engine(theta, x, np.where(np.arange(20) == 3, np.nan, y), shape, 1.0)
    rest = engine(theta, np.delete(x, 3, 0), np.delete(y, 3), shape, 1.0)
    x[3, 2] = bad
    assert np.array_equal(engine(theta, x, y, shape, 1.0), absent)
    np.testing.assert_allclose(absent, rest, rtol=1e-12, atol=1e-14)
    assert (engine(theta, x[3:4], y[3:4], shape, 1.0) == 0.0).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", [np.nan, np.inf, -201.0, 201.0])
def test_t1_a_person_whose_target_is_no_target_is_absent_whatever_the_row(engine, target):
    rng = np.random.default_rng(7)
    shape = SHAPES[1]
    theta, (x, y) = parameters(shape, rng), batch(rng, 20, 7)
    y[5] = target
    absent = engine(theta, x, y, shape, 1.0)
    x[5] = rng.standard_normal(7)
    assert np.array_equal(engine(theta, x, y, shape, 1.0), absent)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_batch_gives_zeros(engine):
    sums = engine(np.ones(6), np.empty((0, 5)), np.empty(0), Shape(5, ()), 1.0)
    assert sums.dtype == np.float64
    assert np.array_equal(sums, np.zeros(6))


def test_the_order_of_rows_has_no_effect():
    rng = np.random.default_rng(8)
    shape = Shape(50, (32,))
    theta, (x, y) = parameters(shape, rng), batch(rng, 3000, 50)
    order = rng.permutation(3000)
    assert distance(clipped_sum(theta, x[order], y[order], shape, 1.0), clipped_sum(theta, x, y, shape, 1.0)) < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_larger_than_a_chunk_is_the_sum_of_its_parts(engine, monkeypatch):
    rng = np.random.default_rng(9)
    shape = SHAPES[2]
    theta, (x, y) = parameters(shape, rng), batch(rng, 100, 4)
    whole = engine(theta, x, y, shape, 1.0)
    monkeypatch.setattr(network, "_ROWS", 7)
    monkeypatch.setattr(network, "_BLOCK", 7)
    assert distance(engine(theta, x, y, shape, 1.0), whole) < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_the_callers_arrays_may_be_read_only_float32_and_strided_and_stay_as_they_are(engine):
    rng = np.random.default_rng(10)
    shape = SHAPES[1]
    theta, (x, y) = parameters(shape, rng), batch(rng, 30, 7)
    x = x.astype(np.float32)
    x[4, 4] = np.nan
    expected = engine(theta, x.astype(float), y, shape, 1.0)
    columnwise = np.asfortranarray(x)
    for array in (theta, columnwise, y):
        array.flags.writeable = False
    np.testing.assert_allclose(engine(theta, columnwise, y, shape, 1.0), expected, rtol=1e-12)
    assert np.isnan(columnwise[4, 4])


@pytest.mark.parametrize("shape", SHAPES)
def test_predictions_are_the_forward_pass_by_hand(shape, monkeypatch):
    rng = np.random.default_rng(11)
    theta, (x, _) = parameters(shape, rng), batch(rng, 50, shape.columns)
    monkeypatch.setattr(network, "_ROWS", 8)
    np.testing.assert_allclose(predict(theta, x, shape), by_hand(theta, x, shape), rtol=1e-12, atol=1e-13)
    assert predict(theta, x[:0], shape).shape == (0,)


def test_a_prediction_of_a_row_with_nan_is_nan_and_others_are_not():
    x = np.array([[0.1, np.nan], [0.1, 0.2]])
    assert np.isnan(predict(np.ones(3), x, Shape(2, ()))).tolist() == [True, False]


def test_start_parameters_repeat_with_the_seed_and_give_everybody_even_odds():
    shape = Shape(6, (8, 4))
    first, second = (init(shape, np.random.default_rng(12)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(predict(first, np.eye(6), shape), np.zeros(6))


def test_steps_along_the_sum_without_noise_learn_an_interaction():
    rng = np.random.default_rng(13)
    shape, x = Shape(2, (8,)), rng.uniform(-0.7, 0.7, (400, 2))
    y = (x[:, 0] * x[:, 1] > 0).astype(float)
    theta, velocity = init(shape, rng), np.zeros(shape.size)
    for _ in range(200):
        velocity = 0.9 * velocity + clipped_sum(theta, x, y, shape, 1.0) / 400
        theta = theta - 1.0 * velocity
    assert ((predict(theta, x, shape) > 0) == (y == 1)).mean() > 0.95


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be in"),
        ({"clip_norm": np.nan}, "clip_norm must be in"),
        ({"theta": np.zeros(7)}, r"theta must have shape \(6,\)"),
        ({"theta": np.full(6, np.nan)}, "theta must be finite"),
        ({"theta": np.full(6, 1e7)}, "theta must be finite"),
        ({"x": np.zeros((3, 4))}, "x must have shape"),
        ({"x": np.zeros(5)}, "x must have shape"),
        ({"y": np.zeros((3, 1))}, "y must have shape"),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_public_and_wrong_is_refused(engine, change, rule):
    good = {"theta": np.zeros(6), "x": np.zeros((3, 5)), "y": np.zeros(3), "shape": Shape(5, ()), "clip_norm": 1.0}
    with pytest.raises(ValueError, match=rule):
        engine(**(good | change))


@pytest.mark.parametrize(("columns", "hidden"), [(0, ()), (3, (0,)), (3, (4, -1))])
def test_widths_below_one_are_refused(columns, hidden):
    with pytest.raises(ValueError, match="must be >= 1"):
        Shape(columns, hidden)


def test_opacus_never_clips_without_storing_each_gradient():
    source = Path(network.__file__).read_text(encoding="utf-8").lower()
    assert "gradsamplemodule(" in source
    assert "ghost" not in source
    assert "fastgradientclipping" not in source


def test_importing_model_imports_no_torch_and_the_network_imports_no_opacus():
    code = "import model, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    source = Path(network.__file__).read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if line.startswith(("import opacus", "from opacus"))]


@pytest.mark.skipif(device() != "cuda", reason="needs a GPU")
def test_a_gpu_gives_the_same_sum():
    rng = np.random.default_rng(14)
    shape = Shape(50, (32,))
    theta, (x, y) = parameters(shape, rng), batch(rng, 3000, 50)
    assert distance(clipped_sum(theta, x, y, shape, 1.0), clipped_sum(theta, x, y, shape, 1.0, on="cpu")) < 1e-10
