import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepa_r_sim.compiler.image import Image, column_words, pack_words, unpack_words


def lines(words, data_bytes):
    """Beats of words, one by one."""
    out, beat = [], b""
    for word in words:
        word = bytes(word)
        if len(word) > data_bytes:
            parts = [word[i : i + data_bytes] for i in range(0, len(word), data_bytes)]
            out += [part.ljust(data_bytes, b"\0") for part in parts]
            continue
        if len(beat) + len(word) > data_bytes:
            out.append(beat.ljust(data_bytes, b"\0"))
            beat = b""
        beat += word
    if beat:
        out.append(beat.ljust(data_bytes, b"\0"))
    return b"".join(out)


@given(
    count=st.integers(1, 20),
    size=st.sampled_from([1, 3, 4, 10, 12, 16, 17, 33, 48, 64]),
    data_bytes=st.sampled_from([4, 8, 16, 32, 128]),
    seed=st.integers(0, 1 << 30),
)
def test_words_are_packed_and_found_again(count, size, data_bytes, seed):
    words = np.random.default_rng(seed).integers(1, 256, (count, size), np.uint8)
    packed = pack_words(words, data_bytes)
    assert packed == lines(words, data_bytes)
    assert np.array_equal(unpack_words(packed, count, size, data_bytes), words)


def test_columns_are_little_endian_and_padded_with_zeros():
    words = column_words([1, -2, 3], [-1, 0x1234, 5], [7, 255, 0], lanes=2)
    assert words.tobytes() == bytes.fromhex(
        "01000000 ffff 07 00  feffffff 3412 ff 00  03000000 0500 00 00  00000000 0000 00 00"
    )
    assert words.shape == (2, 16)


def test_one_column():
    assert column_words(5, 6, 7, lanes=2).tobytes().hex() == "0500000006000700" + "00" * 8


def test_parts_lie_where_they_were_given_a_place():
    rng = np.random.default_rng(1)
    image = Image(base=4144, data_bytes=16)
    parts = []
    for count, size in [(3, 8), (5, 16), (2, 48), (7, 4)]:
        words = rng.integers(0, 256, (count, size), np.uint8)
        address = image.add(count, size, lambda words=words: words)
        assert address % 16 == 0
        parts.append((address, pack_words(words, 16)))
        if size == 16:
            image.align(256)
            assert (image.base + image.size) % 256 == 0
            image.align(256)
    rendered = image.render()
    assert len(rendered) == image.size
    used = np.zeros(len(rendered), bool)
    for address, body in parts:
        at = address - image.base
        assert rendered[at : at + len(body)] == body
        check = rendered[at + len(body) : at + len(body) + 16]
        assert check == zlib.crc32(body).to_bytes(4, "little") + bytes(12)
        assert not used[at : at + len(body) + 16].any()
        used[at : at + len(body) + 16] = True
    assert not any(np.frombuffer(rendered, np.uint8)[~used])
    assert parts[2][0] % 256 == 0


def test_parts_of_another_size_than_asked_for_are_noticed():
    image = Image(base=0, data_bytes=16)
    image.add(3, 16, lambda: np.zeros((2, 16), np.uint8))
    with pytest.raises(AssertionError):
        image.render()
