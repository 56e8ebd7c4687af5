"""define.xml: what a SEND, SDTM or ADaM submission says of its own data sets (CDISC Define-XML 1.0, 2.0 and 2.1).

Read with expat. A document type declaration is refused as soon as it begins, and with it every entity that could
grow without end or fetch another file; the stylesheet a file names is ignored. Labels and origins stand in
attributes in version 1.0 and in elements since 2.0.
"""

from __future__ import annotations

from typing import Any, TypedDict
from xml.parsers import expat

from workbench.formats import FormatError

BYTES = 64 * 2**20
DEPTH = 64
ELEMENTS = 2_000_000
TEXT = 100_000  # characters kept of one label, origin or decoded value


class Variable(TypedDict):
    """One column as defined."""

    name: str
    label: str
    type: str
    length: int | None
    origin: str
    codelist: str
    mandatory: bool


class Dataset(TypedDict):
    """One data set as defined; ``file`` is the name its leaf points to."""

    label: str
    structure: str
    kind: str
    purpose: str
    file: str
    keys: list[str]
    variables: list[Variable]


class Term(TypedDict):
    """One permitted value, and what it stands for ("" where only listed)."""

    value: str
    decode: str


class Codelist(TypedDict):
    """A list of permitted values; ``external`` names a dictionary kept elsewhere."""

    name: str
    type: str
    external: str
    terms: list[Term]


class Definition(TypedDict):
    """The content of a define.xml in plain parts: data sets by name, code lists by identifier."""

    study: str
    protocol: str
    standard: str
    version: str
    datasets: dict[str, Dataset]
    codelists: dict[str, Codelist]


def read(data: bytes, file: str) -> Definition:
    """The definition in ``data``.

    Raises
    ------
    FormatError
        Not XML, not ODM, too large or too deep, with a document type declaration or entities, or a data set refers
        to a column that is not defined.
    """
    if len(data) > BYTES:
        raise FormatError(file, "start", f"expected at most {BYTES:,} bytes, found {len(data):,}")
    reader = _Reader(file)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def place() -> str:
        return f"line {parser.CurrentLineNumber}"

    def refuse(*_: Any) -> Any:
        raise FormatError(file, place(), "a document type declaration (entities, external files) is refused")

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = parser.UnparsedEntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, given: reader.start(_local(name), given, place())
    parser.EndElementHandler = lambda name: reader.end(_local(name))
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(file, place(), f"XML cannot be read: {error}") from None
    return reader.finish()


def _local(name: str) -> str:
    """``ItemDef`` of ``http://... ItemDef``; prefixes and namespaces differ between versions, these names do not."""
    return name.rpartition(" ")[2]


class _Reader:
    """Collects what is wanted of the elements as they come; nothing is kept of the rest."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.path: list[str] = []
        self.elements = 0
        self.words: list[str] = []
        self.size = 0
        self.texts: dict[str, str] = {}
        self.standard = self.version = ""
        self.groups: list[tuple[dict[str, str], list[dict[str, str]], str]] = []
        self.items: dict[str, dict[str, str]] = {}
        self.lists: dict[str, Codelist] = {}
        self.item: dict[str, str] = {}
        self.list: Codelist | None = None

    def start(self, name: str, given: dict[str, str], place: str) -> None:
        if not self.path and name != "ODM":
            raise FormatError(self.file, place, f"expected the element ODM of a define.xml, found {name!r}")
        self.path.append(name)
        self.elements += 1
        if len(self.path) > DEPTH or self.elements > ELEMENTS:
            raise FormatError(self.file, place, f"more than {DEPTH} levels or {ELEMENTS:,} elements: refused")
        self.words, self.size = [], 0
        got = {_local(k): v[:TEXT] for k, v in given.items()}
        inside = self.path[-2] if len(self.path) > 1 else ""
        if name == "MetaDataVersion":
            self.standard = " ".join(v for v in (got.get("StandardName"), got.get("StandardVersion")) if v)
            self.version = got.get("DefineVersion", "")
        elif name == "Standard" and got.get("Type", "IG") == "IG" and not self.standard:
            self.standard = " ".join(v for v in (got.get("Name"), got.get("Version")) if v)
        elif name == "ItemGroupDef":
            self.groups.append((got, [], ""))
        elif name == "ItemRef" and inside == "ItemGroupDef":
            self.groups[-1][1].append(got)
        elif name == "leaf" and inside == "ItemGroupDef":
            self.groups[-1] = (*self.groups[-1][:2], got.get("href", ""))
        elif name == "ItemDef":
            self.item = self.items.setdefault(got.get("OID", ""), got)
        elif name == "Origin" and inside == "ItemDef":
            self.item.setdefault("Origin", got.get("Type", ""))
        elif name == "CodeListRef" and inside == "ItemDef":
            self.item.setdefault("codelist", got.get("CodeListOID", ""))
        elif name == "CodeList":
            kind = {"name": got.get("Name", ""), "type": got.get("DataType", "")}
            self.list = self.lists.setdefault(got.get("OID", ""), Codelist(**kind, external="", terms=[]))  # type: ignore[typeddict-item]
        elif name == "ExternalCodeList" and self.list is not None:
            self.list["external"] = " ".join(v for v in (got.get("Dictionary"), got.get("Version")) if v)
        elif name in ("CodeListItem", "EnumeratedItem") and self.list is not None:
            self.list["terms"].append({"value": got.get("CodedValue", ""), "decode": ""})

    def text(self, words: str) -> None:
        self.size += len(words)
        if self.size <= TEXT:
            self.words.append(words)

    def end(self, name: str) -> None:
        words = "".join(self.words).strip()
        self.words = []
        if name in ("StudyName", "ProtocolName"):
            self.texts[name] = words
        elif name == "TranslatedText" and len(self.path) > 2:
            kind, owner = self.path[-2], self.path[-3]
            if kind == "Decode" and self.list is not None and self.list["terms"]:
                self.list["terms"][-1]["decode"] = words
            elif kind == "Description" and owner == "ItemDef":
                self.item.setdefault("Label", words)
            elif kind == "Description" and owner == "ItemGroupDef":
                self.groups[-1][0].setdefault("Label", words)
        elif name == "CodeList":
            self.list = None
        self.path.pop()

    def finish(self) -> Definition:
        datasets: dict[str, Dataset] = {}
        for group, references, href in self.groups:
            name = group.get("SASDatasetName") or group.get("Name") or group.get("Domain") or ""
            if not name or name in datasets:
                raise FormatError(self.file, "ItemGroupDef", f"expected data sets named once each, found {name!r}")
            ordered = sorted(references, key=lambda r: int(r["KeySequence"]) if _whole(r.get("KeySequence")) else 0)
            keys = [self._item(r, name).get("Name", "") for r in ordered if _whole(r.get("KeySequence"))]
            datasets[name] = {
                "label": group.get("Label", ""),
                "structure": group.get("Structure", ""),
                "kind": group.get("Class", ""),
                "purpose": group.get("Purpose", ""),
                "file": href,
                "keys": keys or [k.strip() for k in group.get("DomainKeys", "").split(",") if k.strip()],
                "variables": [self._variable(r, name) for r in references],
            }
        if not datasets:
            raise FormatError(self.file, "MetaDataVersion", "expected definitions of data sets, found none")
        study, protocol = self.texts.get("StudyName", ""), self.texts.get("ProtocolName", "")
        return {
            "study": study,
            "protocol": protocol,
            "standard": self.standard,
            "version": self.version,
            "datasets": datasets,
            "codelists": self.lists,
        }

    def _item(self, reference: dict[str, str], dataset: str) -> dict[str, str]:
        if (found := self.items.get(reference.get("ItemOID", ""))) is None:
            wanted = reference.get("ItemOID", "")
            raise FormatError(self.file, f"data set {dataset}", f"refers to column {wanted!r}, which is not defined")
        return found

    def _variable(self, reference: dict[str, str], dataset: str) -> Variable:
        item = self._item(reference, dataset)
        return {
            "name": item.get("Name", ""),
            "label": item.get("Label", ""),
            "type": item.get("DataType", ""),
            "length": int(item["Length"]) if _whole(item.get("Length")) else None,
            "origin": item.get("Origin", ""),
            "codelist": item.get("codelist", ""),
            "mandatory": reference.get("Mandatory", "") == "Yes",
        }


def _whole(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) < 10
