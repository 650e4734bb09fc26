"""Golden model of :mod:`jepa_r.planner.threefry`: random words that are a function of a counter.

Threefry-2x32 with 20 rounds, of J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC11.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["ROUNDS", "threefry"]

ROUNDS = 20

#: How far the second word is rotated in each round, eight rounds a cycle.
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)

#: Parity of the key schedule's third word.
PARITY = 0x1BD11BDA


def threefry(
    key: tuple[int, int], counter: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Two random words of 32 bits for a key and each counter (two words each; broadcast)."""
    words = (*key, key[0] ^ key[1] ^ PARITY)
    first, second = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(word, np.uint32)) for word in counter)
    )
    first, second = first + np.uint32(words[0]), second + np.uint32(words[1])
    for number in range(ROUNDS):
        rotation = np.uint32(ROTATIONS[number % 8])
        first = first + second
        second = (second << rotation | second >> (np.uint32(32) - rotation)) ^ first
        if number % 4 == 3:
            group = number // 4 + 1
            first = first + np.uint32(words[group % 3])
            second = second + np.uint32((words[(group + 1) % 3] + group) % 2**32)
    shape = np.broadcast_shapes(*(np.shape(word) for word in counter))
    return first.reshape(shape), second.reshape(shape)
