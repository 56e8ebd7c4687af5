"""Pickled dicts: three names are allowed, everything else is refused and nothing of it runs."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.formats import FormatError, torch_dict


class Run:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_tensors_lists_and_text_are_read():
    content = {"CAL120": torch.arange(3.0), "H2869": [1, 0, -1], "Erlotinib": "CCO"}
    read = torch_dict.read(pickle.dumps(content), "x.pkl")
    np.testing.assert_array_equal(read["CAL120"], np.arange(3, dtype=np.float32))
    assert read["CAL120"].dtype == np.float32
    assert (read["H2869"], read["Erlotinib"]) == ([1, 0, -1], "CCO")


def test_a_view_is_read_as_its_own_values():
    read = torch_dict.read(pickle.dumps({"row": torch.arange(6.0).reshape(2, 3)[1]}), "x.pkl")
    assert read["row"].tolist() == [3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {}",)),
        (subprocess.check_output, (["touch", "{}"],)),
        (eval, ("open({!r}, 'w')",)),
        (exec, ("open({!r}, 'w')",)),
        (open, ("{}", "w")),
        (Path, ("{}",)),
        (torch.load, ("{}",)),
        (getattr, ("", "upper")),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_something_is_refused_and_nothing_runs(tmp_path, function, arguments, protocol):
    mark = tmp_path / "mark"
    filled = tuple(
        [part.format(str(mark)) for part in a] if isinstance(a, list) else a.format(str(mark)) for a in arguments
    )
    data = pickle.dumps({"good": [1.0, 2.0], "bad": Run(function, *filled)}, protocol=protocol)
    with pytest.raises(FormatError, match=r"x\.pkl, byte \d+: the pickle asks for .*, which is refused; ") as refusal:
        torch_dict.read(data, "x.pkl")
    assert function.__name__ in str(refusal.value)
    assert not mark.exists()


def test_a_pickle_inside_the_storage_is_refused_and_does_not_run(tmp_path):
    """The storage's bytes go through torch.load(weights_only=True), so a pickle nested there is refused too."""
    mark = tmp_path / "mark"
    inner = io.BytesIO()
    torch.save({"bad": Run(os.system, f"touch {mark}")}, inner)
    data = pickle.dumps({"x": Run(torch.storage._load_from_bytes, inner.getvalue())})
    with pytest.raises(FormatError, match=r"x\.pkl, content: .*Weights only load failed"):
        torch_dict.read(data, "x.pkl")
    assert not mark.exists()
    torch.load(io.BytesIO(inner.getvalue()), weights_only=False)  # a clean control: the planted call does work
    assert mark.exists()


def test_names_with_dots_reach_nothing_through_the_allowed_ones():
    data = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93."
    with pytest.raises(FormatError, match=r"asks for collections\.OrderedDict\.__init__"):
        torch_dict.read(data, "x.pkl")


def test_torch_itself_cannot_be_changed_by_a_pickle():
    """A pickle may set attributes of a function it holds: here that is a throw-away one."""
    before = torch._utils._rebuild_tensor_v2.__defaults__
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x0c\x00\x00\x00__defaults__K\x01\x85stb."
    with pytest.raises(FormatError, match="expected a dict"):
        torch_dict.read(data, "x.pkl")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_a_tensor_that_declares_more_than_it_stores_is_refused():
    data = pickle.dumps({"bomb": torch.ones(1).expand(10**12)})
    with pytest.raises(FormatError, match=r"x\.pkl, key 'bomb': declares 4,000,000,000,000 bytes"):
        torch_dict.read(data, "x.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dict, found list"),
        ({1: "x"}, "expected text, found int"),
        ({"x": {"y": 1}}, "expected a tensor, a list or text, found dict"),
        (OrderedDict(x=3), "found int"),
    ],
)
def test_other_shapes_are_refused(content, message):
    with pytest.raises(FormatError, match=message):
        torch_dict.read(pickle.dumps(content), "x.pkl")


@pytest.mark.parametrize("data", [b"", b"not a pickle", pickle.dumps({"a": "b"})[:-3]])
def test_a_damaged_pickle_is_refused(data):
    with pytest.raises(FormatError, match=r"^x\.pkl, "):
        torch_dict.read(data, "x.pkl")


def test_a_persistent_id_is_refused():
    buffer = io.BytesIO()

    class Writer(pickle.Pickler):
        def persistent_id(self, item):
            return "elsewhere" if isinstance(item, zipfile.ZipInfo) else None

    Writer(buffer).dump({"x": zipfile.ZipInfo("y")})
    with pytest.raises(FormatError, match="kept outside the file"):
        torch_dict.read(buffer.getvalue(), "x.pkl")
