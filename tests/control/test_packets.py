import struct
import zlib

import pytest

from jepa_r_sim.drivers.packets import Action, parse_action, state_packet


def words_of(head):
    """Packet of some bytes and their sum."""
    whole = head + struct.pack("<I", zlib.crc32(head))
    return [int.from_bytes(whole[n : n + 4], "little") for n in range(0, len(whole), 4)]


def test_state_packet_is_as_written_by_hand():
    words = state_packet(0x01020304, [1, -1, 2, -2, 3, -32639, 16384], 0xA0B0C0D0)
    assert words[:6] == [
        0x01020304, 0xFFFF0001, 0xFFFE0002, 0x80810003, 0x00004000, 0xA0B0C0D0,
    ]  # fmt: skip
    data = bytes.fromhex("04030201 0100ffff 0200feff 03008180 00400000 d0c0b0a0")
    assert words[6] == zlib.crc32(data)


def test_action_packet_is_read_or_refused():
    head = bytes.fromhex(
        "07000000 f0debc9a78563412 05000000 3412 0200 0000 ffff 0000 0000 0000 0000 0080 0000"
    )
    assert parse_action(words_of(head)) == Action(
        sequence=7, time=0x1234_5678_9ABC_DEF0, age=5, plan=0x1234, valid=False, stale=True,
        action=(0, -1, 0, 0, 0, 0, -32768),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"^an action packet has 9 words; it must have 10$"):
        parse_action(words_of(head)[:9])
    with pytest.raises(ValueError, match=r"^an action packet has the sum 0x0, not 0x[0-9a-f]+$"):
        parse_action([*words_of(head)[:9], 0])
    odd = bytearray(head)
    odd[18] = 4
    with pytest.raises(ValueError, match=r"^an action packet has flags 0x4 and 0x0 in its last"):
        parse_action(words_of(odd))
