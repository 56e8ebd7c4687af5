"""Arrays as .npy bytes: numpy writes the same and reads the same; what is no array is refused, never guessed at."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest

from workbench.federated import npy

KINDS = ["bool", "int8", "int64", "uint64", "float16", "float32", "float64", ">f8", "longdouble"]


def saved(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_numpys_and_come_back_as_arrays_of_their_own(kind: str) -> None:
    whole = np.arange(24).reshape(2, 3, 4).astype(kind)
    for array in (
        np.array([[0, 1, 2], [3, 250, 9]]).astype(kind), np.zeros((0, 4), kind), np.array(1).astype(kind),
        np.asfortranarray(np.ones((3, 2), kind)), whole[::-1, ::2], whole.transpose(1, 0, 2),
    ):  # fmt: skip
        data = npy.packed(array)
        assert data == saved(array)
        back = npy.unpacked(data)
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert back.flags.writeable and back.flags.f_contiguous == np.load(BytesIO(data)).flags.f_contiguous


def test_two_arrays_of_the_same_bytes_share_nothing() -> None:
    data = npy.packed(np.arange(5.0))
    first, second = npy.unpacked(data), npy.unpacked(data)
    first[:] = -1
    np.testing.assert_array_equal(second, np.arange(5.0))
    np.testing.assert_array_equal(npy.unpacked(data), np.arange(5.0))


def test_objects_are_refused_both_ways() -> None:
    with pytest.raises(ValueError, match="pickle"):
        npy.packed(np.array([{"a": 1}], dtype=object))
    file = BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an array"):
        npy.unpacked(file.getvalue())


GOOD = npy.packed(np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x93NUMPY", GOOD[:9], GOOD[:40], GOOD[:-1], GOOD + b"\0", b"\x80\x04cos\nsystem\n.",
        GOOD.replace(b"(2, 3)", b"(2,-3)"), GOOD.replace(b"(2, 3)", b"(2, 4)"), GOOD.replace(b"<f8", b"<U8"),
        GOOD.replace(b"(2, 3)", b"(a, 3)"), GOOD.replace(b"descr", b"other"),
    ],
)  # fmt: skip
def test_what_is_no_array_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):  # what ``task`` takes for a message that cannot be read
        npy.unpacked(data)


def test_a_later_version_of_the_format_is_read_too() -> None:
    file = BytesIO()
    np.lib.format.write_array(file, np.arange(3.0), version=(3, 0))
    np.testing.assert_array_equal(npy.unpacked(file.getvalue()), np.arange(3.0))
