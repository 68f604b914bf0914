import numpy as np
import pytest
from scipy.signal import lfilter

from envs.market.indicators import recursive_filter


@pytest.mark.parametrize(("gain", "decay"), [(1.0, 0.99), (0.15, 0.85), (2.0, 0.0)])
@pytest.mark.parametrize("shape", [(1, 200), (7, 30), (3, 1), (2, 0)])
def test_it_is_scipys_filter_bit_for_bit(gain, decay, shape):
    rng = np.random.default_rng(0)
    values, before = rng.normal(size=shape), rng.normal(size=(shape[0], 1))
    ours = recursive_filter(values, gain, decay, before)
    if not values.size:
        assert ours.shape == shape
        return
    theirs, _ = lfilter([gain], [1.0, -decay], values, axis=1, zi=decay * before)
    np.testing.assert_array_equal(ours, theirs)
