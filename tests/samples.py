"""A small valid file of every format, made here: what the tests bend, cut and swap bytes of.

``SAMPLES[format]()`` gives bytes that ``workbench.formats.<format>.read(data, file)`` takes, with ``OPTIONS[format]``
where it needs any.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from tests import transport


def table() -> bytes:
    """Three columns, a quoted field, a decimal comma and a missing cell."""
    return b'name;dose (uM);note\r\nA;0,5;"two; words"\r\nB;10,25;\r\nC;NA;"a ""quote"""\r\n'


def plate() -> bytes:
    """A title over a block of 96 wells whose values are row + column / 100."""
    lines = ["Plate 1", "\t" + "\t".join(str(c) for c in range(1, 13))]
    lines += [f"{letter}\t" + "\t".join(f"{r}.{c:02d}" for c in range(1, 13)) for r, letter in enumerate("ABCDEFGH", 1)]
    return "\n".join(lines).encode()


def xlsx() -> bytes:
    """Two sheets: names and numbers, and one number far down."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "values"
    for row in (["name", "value"], ["x", 0.1], ["007", 1e-12], ["y", 6]):
        sheet.append(row)
    book.create_sheet("more")["B3"] = 4
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def mtx() -> bytes:
    """Three features x two cells, counts."""
    return b"%%MatrixMarket matrix coordinate integer general\n%made for tests\n3 2 3\n1 1 5\n3 1 2\n2 2 7\n"


def smiles() -> bytes:
    """Two compounds with a name."""
    return b"name,smiles\nethanol,OCC\nphenol,c1ccccc1O\n"


ETHANOL = """ethanol
  made

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.5000    0.0000    0.0000 C   0  0
    2.2000    1.2000    0.0000 O   0  0
  1  2  1  0
  2  3  1  0
M  END
> <id>
7

$$$$
"""


def sdf() -> bytes:
    """One molecule in V2000 with a data item, and one in V3000."""
    from rdkit import Chem

    block = Chem.MolToV3KMolBlock(Chem.MolFromSmiles("CC(N)=O"))
    return (ETHANOL + block + "> <id>\n8\n\n$$$$\n").encode()


def cells(rows: int = 4, columns: int = 3):
    """AnnData of small counts."""
    import pandas as pd
    import scipy.sparse
    from anndata import AnnData

    values = scipy.sparse.csr_matrix(np.arange(rows * columns, dtype=np.float32).reshape(rows, columns) % 5)
    obs = pd.DataFrame({"donor": [f"d{i % 2}" for i in range(rows)]}, index=[f"cell{i}" for i in range(rows)])
    return AnnData(values, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(columns)]))


def h5ad() -> bytes:
    """Four cells x three genes with donors."""
    from workbench.formats import h5ad as writer

    return writer.write(cells())


def h5mu() -> bytes:
    """Two modalities of the same four cells."""
    import anndata
    import h5py
    import mudata

    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = mudata.MuData({"rna": cells(), "prot": cells(columns=2)})
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update({"encoding-type": "MuData", "encoding-version": "0.1.0", "axis": 0})
        group = file.create_group("mod")
        group.attrs["mod-order"] = np.array(list(whole.mod), dtype=object)
        for name, data in whole.mod.items():
            anndata.io.write_elem(group, name, data)
        for name in ("obs", "var"):
            anndata.io.write_elem(file, name, getattr(whole, name))
    return buffer.getvalue()


def tenx_h5() -> bytes:
    """Three features (one antibody) x two barcodes."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array([b"AAA-1", b"CCC-1"])
        group["data"] = np.array([5, 2, 7], dtype=np.int32)
        group["indices"] = np.array([0, 2, 1], dtype=np.int64)
        group["indptr"] = np.array([0, 2, 3], dtype=np.int64)
        group["shape"] = np.array([3, 2], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([b"ENSG1", b"ENSG2", b"CD3"])
        features["name"] = np.array([b"TP53", b"TP53", b"CD3"])
        features["feature_type"] = np.array([b"Gene Expression", b"Gene Expression", b"Antibody Capture"])
    return buffer.getvalue()


def parquet() -> bytes:
    """Two columns, three rows."""
    import polars as pl

    from workbench.formats import parquet as writer

    return writer.write(pl.DataFrame({"name": ["a", "b", None], "value": [1.5, None, 3.0]}))


def csv() -> bytes:
    """A promised header, two columns, three rows."""
    return b'name,value\nA,0.5\n"B, with a comma",\nC,3e-7\n'


def xpt() -> bytes:
    """Two data sets: text, numbers of eight and three bytes, missing values."""
    columns = [
        ("USUBJID", "Subject", 9, ["S-1", "S-2", "S-3"]),
        ("AGE", "Age", -8, [61.5, None, "A"]),
        ("N", "", -3, [1, -2, 0]),
    ]
    return transport.write({"DM": columns, "SC": [("SCTEST", "Test", 40, ["weight \u00b5g".encode()])]})


def define_xml() -> bytes:
    """One data set of two columns, one with a code list."""
    return b"""<?xml version="1.0" encoding="UTF-8"?>
<ODM xmlns="http://www.cdisc.org/ns/odm/v1.3" xmlns:def="http://www.cdisc.org/ns/def/v2.0"
 xmlns:xlink="http://www.w3.org/1999/xlink"><Study OID="S"><GlobalVariables><StudyName>Made</StudyName>
<ProtocolName>P-1</ProtocolName></GlobalVariables>
<MetaDataVersion OID="M" Name="M" def:DefineVersion="2.0.0" def:StandardName="SEND-IG" def:StandardVersion="3.1">
<ItemGroupDef OID="IG.DM" Name="DM" SASDatasetName="DM" def:Structure="One record per subject"
 def:Class="SPECIAL PURPOSE">
<Description><TranslatedText>Demographics</TranslatedText></Description>
<ItemRef ItemOID="IT.DM.USUBJID" Mandatory="Yes" KeySequence="1"/><ItemRef ItemOID="IT.DM.SEX" Mandatory="No"/>
<def:leaf ID="L" xlink:href="dm.xpt"><def:title>dm.xpt</def:title></def:leaf></ItemGroupDef>
<ItemDef OID="IT.DM.USUBJID" Name="USUBJID" DataType="text" Length="9">
<Description><TranslatedText>Subject &amp; identifier</TranslatedText></Description>
<def:Origin Type="Derived"/></ItemDef>
<ItemDef OID="IT.DM.SEX" Name="SEX" DataType="text" Length="1"><CodeListRef CodeListOID="CL.SEX"/></ItemDef>
<CodeList OID="CL.SEX" Name="Sex" DataType="text"><CodeListItem CodedValue="F"><Decode>
<TranslatedText>Female</TranslatedText></Decode></CodeListItem><EnumeratedItem CodedValue="M"/></CodeList>
</MetaDataVersion></Study></ODM>
"""


def torch_dict() -> bytes:
    """A pickled dict of a tensor, a list and text."""
    import torch

    buffer = io.BytesIO()
    pickle.dump({"A": torch.arange(4.0), "B": [1, 2], "C": "CCO"}, buffer, protocol=4)
    return buffer.getvalue()


OPTIONS: dict[str, dict[str, Any]] = {
    "h5ad": {"foreign": True},  # as folders read it: what AnnData wrote before 0.8 too
    "csv": {"columns": {"name": pl.String, "value": pl.Float64}},
}
SAMPLES: dict[str, Callable[[], bytes]] = {
    "csv": csv,
    "define_xml": define_xml,
    "h5ad": h5ad,
    "h5mu": h5mu,
    "mtx": mtx,
    "parquet": parquet,
    "plate": plate,
    "sdf": sdf,
    "smiles": smiles,
    "table": table,
    "tenx_h5": tenx_h5,
    "torch_dict": torch_dict,
    "xlsx": xlsx,
    "xpt": xpt,
}
