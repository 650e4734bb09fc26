import pytest

from jepa_r.control.axi_lite import AxiLiteTarget


def test_addresses_name_words():
    with pytest.raises(ValueError, match=r"^address_bits is 2; words have at least 3$"):
        AxiLiteTarget(address_bits=2)
