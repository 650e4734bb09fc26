"""Golden model of :mod:`jepa_r.cluster.boot`: what an image's header leads to."""

from jepa_r.cluster.isa import WORD_BYTES, Destination

__all__ = ["boot"]


def boot(
    header: int, *, address: int, config_hash: int, program_words: int, data_bytes: int
) -> tuple[list[dict[str, int]], str]:
    """Transfers that Boot asks for, and whether it begins or by which fault it refuses.

    ``header`` is the first 16 bytes of the image, little endian.
    """

    def transfer(place: int, words: int, destination: Destination) -> dict[str, int]:
        zero = dict.fromkeys(("stride", "dest_addr", "tiles"), 0)
        kind = {"rows": 1, "crc": 1, "dest": destination.value}
        return zero | kind | {"address": place, "words": words}

    magic, version, config, words = (header >> 32 * n & 0xFFFFFFFF for n in range(4))
    asked = [transfer(address, 1, Destination.HEADER)]
    if magic.to_bytes(4, "little") != b"JPRP":
        return asked, "IMAGE_MAGIC"
    if version != 2:
        return asked, "IMAGE_VERSION"
    if config != config_hash:
        return asked, "IMAGE_CONFIG"
    if not 1 <= words <= program_words:
        return asked, "IMAGE_LENGTH"
    # A header takes whole beats, and its sum one more.
    behind = -(-WORD_BYTES // data_bytes) * data_bytes + data_bytes
    return [*asked, transfer(address + behind, words, Destination.PROGRAM)], "begin"
