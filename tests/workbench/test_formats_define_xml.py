"""define.xml: versions 1.0 and 2.0 say the same things, and entities are refused before they can grow."""

from __future__ import annotations

import time

import pytest

from tests.real import shared
from tests.samples import SAMPLES
from workbench.formats import FormatError, define_xml

GOOD = SAMPLES["define_xml"]()


def test_what_a_definition_says():
    found = define_xml.read(GOOD, "define.xml")
    assert (found["study"], found["protocol"], found["standard"], found["version"]) == (
        "Made", "P-1", "SEND-IG 3.1", "2.0.0",
    )  # fmt: skip
    dm = found["datasets"]["DM"]
    assert (dm["label"], dm["file"], dm["keys"], dm["kind"]) == (
        "Demographics",
        "dm.xpt",
        ["USUBJID"],
        "SPECIAL PURPOSE",
    )
    assert dm["variables"][0] == {
        "name": "USUBJID", "label": "Subject & identifier", "type": "text", "length": 9, "origin": "Derived",
        "codelist": "", "mandatory": True,
    }  # fmt: skip
    assert dm["variables"][1]["codelist"] == "CL.SEX"
    assert found["codelists"]["CL.SEX"]["terms"] == [{"value": "F", "decode": "Female"}, {"value": "M", "decode": ""}]


@pytest.mark.parametrize(
    ("folder", "version", "standard", "datasets", "variables", "codelists"),
    [
        ("PDS", "1.0", "CDISC SEND 3.0", 21, 421, 41),
        ("PointCross", "2.0.0", "SEND-IG 3.0", 28, 362, 49),
        ("CDISC-Safety-Pharmacology-POC", "2.0.0", "SEND-IG 3.0", 11, 149, 41),
        ("CBER-POC-Pilot-Study2-Vaccine", "2.0.0", "SEND-IG 3.1", 20, 260, 70),
    ],
)
def test_real_definitions(
    folder: str, version: str, standard: str, datasets: int, variables: int, codelists: int
) -> None:
    """Counts of ItemGroupDef, of its ItemRef and of CodeList, as grep finds them."""
    found = define_xml.read((shared("send") / folder / "define.xml").read_bytes(), "define.xml")
    assert (found["version"], found["standard"], len(found["datasets"])) == (version, standard, datasets)
    assert sum(len(d["variables"]) for d in found["datasets"].values()) == variables
    assert len(found["codelists"]) == codelists
    assert all(d["label"] and d["file"].endswith(".xpt") for d in found["datasets"].values())


LAUGHS = "<!DOCTYPE ODM [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {chr(98 + i)} '{('&' + chr(97 + i) + ';') * 10}'>" for i in range(12)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "before",
    [
        LAUGHS,
        "<!DOCTYPE ODM SYSTEM 'http://example.org/odm.dtd'>",
        "<!DOCTYPE ODM [<!ENTITY secret SYSTEM 'file:///etc/passwd'>]>",
        "<!DOCTYPE ODM [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>",
        "<!DOCTYPE ODM>",
    ],
)
def test_entities_and_declarations_are_refused_at_once(before: str) -> None:
    head, rest = GOOD.split(b"\n", 1)
    data = head + b"\n" + before.encode() + b"\n" + rest.replace(b"Made", b"&m;")
    began = time.monotonic()
    with pytest.raises(FormatError, match=r"define\.xml, line 2: a document type declaration") as refusal:
        define_xml.read(data, "define.xml")
    assert time.monotonic() - began < 0.5 and refusal.value.place == "line 2"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "XML cannot be read"),
        (b"PK\3\4", "XML cannot be read"),
        (GOOD[:900], "XML cannot be read"),
        (GOOD.replace(b"<ODM", b"<HTML").replace(b"/ODM", b"/HTML"), "expected the element ODM"),
        (b"<ODM/>", "found none"),
        (GOOD.replace(b'ItemOID="IT.DM.SEX"', b'ItemOID="IT.DM.SEXX"'), "'IT.DM.SEXX', which is not defined"),
        (b"<ODM>" + b"<a>" * 100 + b"</a>" * 100 + b"</ODM>", "more than 64 levels"),
        (GOOD.replace(b"UTF-8", b"latin-9000"), "XML cannot be read"),
        (GOOD.replace(b"Made", b"&undefined;"), "XML cannot be read"),
        (GOOD.replace(b'Name="DM" SAS', b'Name="" SAS').replace(b'SASDatasetName="DM"', b""), "named once each"),
        (b" " * (define_xml.BYTES + 1), "expected at most"),
    ],
)
def test_damage_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=r"^define\.xml, ") as refusal:
        define_xml.read(data, "define.xml")
    assert reason in refusal.value.reason


def test_a_very_long_label_is_cut():
    found = define_xml.read(GOOD.replace(b"Demographics", b"x" * 10**6), "define.xml")
    assert len(found["datasets"]["DM"]["label"]) <= define_xml.TEXT
