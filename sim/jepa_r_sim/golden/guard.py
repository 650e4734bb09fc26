"""Golden function of :mod:`jepa_r.safety.guard`: the bytes of a burst, one by one."""

__all__ = ["allowed", "burst_bytes"]


def burst_bytes(*, address: int, length: int, size: int) -> range:
    """Addresses of all bytes of an incrementing burst, in the coding of AXI."""
    width = 1 << size
    return range(address, address // width * width + (length + 1) * width)


def allowed(*, base: int, limit: int, address: int, length: int, size: int, burst: int = 1) -> bool:
    """Whether every byte is in the window and in the page of the first one."""
    touched = burst_bytes(address=address, length=length, size=size)
    return burst == 1 and all(
        base <= byte <= limit and byte < 2**32 and byte // 4096 == address // 4096
        for byte in touched
    )
