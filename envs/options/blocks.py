"""Run a vectorised formula over cache-sized pieces of its broadcast arguments.

A formula of thirty NumPy operations on millions of elements spends most of its time moving
temporaries through memory. In pieces of a few thousand they never leave the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.types import FloatArray

_BLOCK = 8192  # elements: twenty temporaries of 64 KiB


def in_blocks(
    formula: Callable[..., Sequence[FloatArray]], inputs: Sequence[NDArray[Any]], outputs: int = 1
) -> tuple[FloatArray, ...]:
    """Apply an elementwise `formula` to arrays that broadcast, piece by piece.

    `formula` gets one contiguous vector for each input, in its own dtype, and returns `outputs`
    vectors. Returns as many float64 arrays of the broadcast shape.
    """
    count = len(inputs)
    # NumPy's type stubs lack the "contig" flag. It makes every piece contiguous, so that a value
    # does not depend on the memory layout that it came in: strided loops may round differently.
    nditer: Any = np.nditer
    with nditer(
        [*inputs, *[None] * outputs],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly", "contig"]] * count + [["writeonly", "allocate", "contig"]] * outputs,
        op_dtypes=[values.dtype for values in inputs] + [np.dtype(np.float64)] * outputs,
        buffersize=_BLOCK,
        order="C",
    ) as pieces:
        results: tuple[FloatArray, ...] = tuple(pieces.operands[count:])
        for piece in pieces:
            for out, values in zip(piece[count:], formula(*piece[:count]), strict=True):
                out[...] = values
    return results
