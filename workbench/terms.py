"""Controlled terms for species, strain, sex, specimen, route, finding and severity; the source term is always kept.

Names and codes are those of the CDISC controlled terminology for SEND, published by the NCI (code lists C66731 SEX,
C66729 ROUTE, C77808 SPECIES, C77530 STRAIN, C77529 SPEC, C90000 SEV); a code is given only where it was seen in a
published define.xml. Concepts are those of the OMOP vocabularies (gender 8507 and 8532, routes of SNOMED CT).
A spelling that is none of a term's own is not mapped: it comes back unmapped, with the nearest term as a hint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

import polars as pl

LISTS = {  # kind -> name and code of its CDISC code list
    "species": ("SPECIES", "C77808"),
    "strain": ("STRAIN", "C77530"),
    "sex": ("SEX", "C66731"),
    "specimen": ("SPEC", "C77529"),
    "route": ("ROUTE", "C66729"),
    "finding": ("NONNEO", None),
    "severity": ("SEV", "C90000"),
}
SPECIMENS = """
ALL TISSUES=C90476; ARTERY, AORTA=C12669; BODY CAVITY, CRANIAL=C77638; BODY CAVITY, NASAL=C12424; BONE
MARROW=C12431; BONE MARROW, FEMUR=C77686; BONE MARROW, STERNUM=C77690; BONE, FEMUR=C12717; BONE, STERNUM=C12793;
BRAIN=C12439; CERVIX=C12311; EPIDIDYMIS=C12328; ESOPHAGUS=C12389; EYE=C12401; GALLBLADDER=C12377; GLAND,
ADRENAL=C12666; GLAND, COAGULATING=C77618; GLAND, HARDERIAN=C77619; GLAND, LACRIMAL=C12346; GLAND, MAMMARY=C12367;
GLAND, PARATHYROID=C12765; GLAND, PITUITARY=C12399; GLAND, PROSTATE=C12410; GLAND, SALIVARY, PAROTID=C12427; GLAND,
SALIVARY, SUBLINGUAL=C12234; GLAND, SALIVARY, SUBMANDIBULAR=C12233; GLAND, SEMINAL VESICLE=C12787; GLAND,
THYROID=C12400; GUT-ASSOCIATED LYMPHOID TISSUE=C12936; HEART=C12727; HINDLIMB=C77625; JOINT, HIP=C32742;
KIDNEY=C12415; LARGE INTESTINE, APPENDIX=C12380; LARGE INTESTINE, CECUM=C12381; LARGE INTESTINE, COLON=C12382; LARGE
INTESTINE, RECTUM=C12390; LARYNX=C12420; LIVER=C12392; LUNG=C12468; LYMPH NODE=C12745; LYMPH NODE, ILIAC=C32761;
LYMPH NODE, MANDIBULAR=C77650; LYMPH NODE, MESENTERIC=C77641; LYMPH NODE, POPLITEAL=C53146; MUSCLE,
DIAPHRAGM=C12702; MUSCLE, QUADRICEPS FEMORIS=C33441; MUSCLE, SKELETAL=C13050; NERVE, OPTIC=C12761; NERVE,
SCIATIC=C52810; OVARY=C12404; OVIDUCT=C12403; PANCREAS=C12393; PEYER'S PATCH=C12771; PLASMA=C13356; SERUM=C13325;
SITE, APPLICATION=C77676; SKIN=C12470; SMALL INTESTINE, DUODENUM=C12263; SMALL INTESTINE, ILEUM=C12387; SMALL
INTESTINE, JEJUNUM=C12388; SMALL INTESTINE, SACCULUS ROTUNDUS=C88024; SPINAL CORD=C12464; SPINAL CORD,
CERVICAL=C12892; SPINAL CORD, LUMBAR=C12895; SPINAL CORD, THORACIC=C12894; SPLEEN=C12432; STOMACH=C12391;
TESTIS=C12412; THYMUS=C12433; TONGUE=C12422; TRACHEA=C12428; URETER=C12416; URINARY BLADDER=C12414; URINE=C13283;
UTERUS=C12405; VAGINA=C12407; WHOLE BLOOD=C41067
"""
TERMS: dict[str, dict[str, str | None]] = {
    "species": {
        "RAT": None, "MOUSE": None, "DOG": "C14201", "RABBIT": "C14264", "MONKEY": None, "PIG": None, "HAMSTER": None,
        "GUINEA PIG": None, "HUMAN": None,
    },
    "strain": {
        "BEAGLE": "C53897", "NEW ZEALAND": "C114344", "SPRAGUE-DAWLEY": None, "WISTAR": None, "FISCHER 344": None,
    },
    "sex": {"F": "C16576", "M": "C20197", "U": "C17998"},
    "specimen": {
        **dict(pair.split("=") for pair in " ".join(SPECIMENS.split()).split("; ")),
        **dict.fromkeys((
            "GLAND, PREPUTIAL", "GLAND, CLITORAL", "JOINT, STIFLE", "NOSE", "SITE, MICROCHIP", "SUBCUTIS",
            "BILE", "CEREBROSPINAL FLUID",
        )),
    },
    "route": {
        "ORAL": "C38288", "ORAL GAVAGE": "C78374", "INTRAMUSCULAR": "C28161", "INTRAVENOUS": None, "SUBCUTANEOUS": None,
        "INTRAPERITONEAL": None, "DERMAL": None, "TRANSDERMAL": None, "TOPICAL": None, "INTRADERMAL": None,
    },
    "finding": dict.fromkeys((
        "UNREMARKABLE", "ATROPHY", "CONGESTION", "CYST", "DEGENERATION", "EDEMA", "EROSION", "FIBROSIS", "HEMORRHAGE",
        "HYPERPLASIA", "HYPERTROPHY", "INFLAMMATION", "METAPLASIA", "MINERALIZATION", "NECROSIS", "ULCER",
        "VACUOLATION",
    )),
    "severity": {
        "MINIMAL": "C25570", "MILD": "C70666", "MODERATE": "C61376", "MARKED": "C48662", "SEVERE": None,
        "1 OF 5": "C147501", "2 OF 5": "C147504", "3 OF 5": "C147507", "4 OF 5": "C147509", "5 OF 5": None,
    },
}  # fmt: skip
SYNONYMS: dict[str, dict[str, str]] = {  # other spellings of the very same thing, nothing broader
    "species": {
        "RATTUS NORVEGICUS": "RAT", "MUS MUSCULUS": "MOUSE", "HOMO SAPIENS": "HUMAN", "CANIS LUPUS FAMILIARIS": "DOG",
        "CANIS FAMILIARIS": "DOG", "ORYCTOLAGUS CUNICULUS": "RABBIT", "RATS": "RAT", "MICE": "MOUSE", "DOGS": "DOG",
        "RABBITS": "RABBIT",
    },
    "strain": {"SPRAGUE DAWLEY": "SPRAGUE-DAWLEY", "NEW ZEALAND WHITE": "NEW ZEALAND"},
    "sex": {"FEMALE": "F", "MALE": "M", "UNKNOWN": "U"},
    "specimen": {
        "OESOPHAGUS": "ESOPHAGUS", "ADRENAL": "GLAND, ADRENAL", "ADRENAL GLAND": "GLAND, ADRENAL",
        "THYROID": "GLAND, THYROID", "THYROID GLAND": "GLAND, THYROID", "PARATHYROID": "GLAND, PARATHYROID",
        "PITUITARY": "GLAND, PITUITARY", "PITUITARY GLAND": "GLAND, PITUITARY", "PROSTATE": "GLAND, PROSTATE",
        "PROSTATE GLAND": "GLAND, PROSTATE", "MAMMARY GLAND": "GLAND, MAMMARY", "HARDERIAN GLAND": "GLAND, HARDERIAN",
        "SEMINAL VESICLE": "GLAND, SEMINAL VESICLE", "AORTA": "ARTERY, AORTA", "CAECUM": "LARGE INTESTINE, CECUM",
        "CECUM": "LARGE INTESTINE, CECUM", "COLON": "LARGE INTESTINE, COLON", "RECTUM": "LARGE INTESTINE, RECTUM",
        "DUODENUM": "SMALL INTESTINE, DUODENUM", "JEJUNUM": "SMALL INTESTINE, JEJUNUM",
        "ILEUM": "SMALL INTESTINE, ILEUM", "SCIATIC NERVE": "NERVE, SCIATIC", "OPTIC NERVE": "NERVE, OPTIC",
        "STERNUM": "BONE, STERNUM", "FEMUR": "BONE, FEMUR", "BLOOD": "WHOLE BLOOD", "TESTES": "TESTIS",
        "OVARIES": "OVARY", "KIDNEYS": "KIDNEY", "LUNGS": "LUNG", "EYES": "EYE", "GALL BLADDER": "GALLBLADDER",
        "SEMINAL VESICLES": "GLAND, SEMINAL VESICLE", "ADRENALS": "GLAND, ADRENAL", "EPIDIDYMIDES": "EPIDIDYMIS",
        "CSF": "CEREBROSPINAL FLUID",
    },
    "route": {
        "PO": "ORAL", "PER OS": "ORAL", "GAVAGE": "ORAL GAVAGE", "IV": "INTRAVENOUS", "I.V.": "INTRAVENOUS",
        "IM": "INTRAMUSCULAR", "I.M.": "INTRAMUSCULAR", "SC": "SUBCUTANEOUS", "S.C.": "SUBCUTANEOUS",
        "IP": "INTRAPERITONEAL", "I.P.": "INTRAPERITONEAL",
    },
    "finding": {
        "NORMAL": "UNREMARKABLE", "NO VISIBLE LESIONS": "UNREMARKABLE", "WITHIN NORMAL LIMITS": "UNREMARKABLE",
        "NO ABNORMALITIES": "UNREMARKABLE", "VACUOLIZATION": "VACUOLATION", "VACUOLISATION": "VACUOLATION",
        "MINERALISATION": "MINERALIZATION", "HAEMORRHAGE": "HEMORRHAGE", "OEDEMA": "EDEMA", "CYST(S)": "CYST",
        "ULCERATION": "ULCER",
    },
    "severity": {},
}  # fmt: skip
CONCEPTS = {  # (kind, term) -> OMOP concept
    ("sex", "M"): 8507,
    ("sex", "F"): 8532,
    ("route", "ORAL"): 4132161,
    ("route", "INTRAVENOUS"): 4171047,
    ("route", "INTRAMUSCULAR"): 4302612,
    ("route", "SUBCUTANEOUS"): 4142048,
}
GRADES = {"MINIMAL": 1, "MILD": 2, "MODERATE": 3, "MARKED": 4, "SEVERE": 5} | {f"{n} OF 5": n for n in range(1, 6)}


@dataclass(frozen=True)
class Term:
    """A source term and what it is in the controlled list; ``term`` is None where nothing was found.

    Attributes
    ----------
    code : its NCI code, None where not known for certain
    codelist : name of the CDISC code list
    concept : OMOP concept, None where there is none
    hint : nearest term of the list where nothing was found; a suggestion for people, never used as a mapping
    """

    kind: str
    source: str
    term: str | None
    code: str | None
    codelist: str
    concept: int | None
    hint: str | None


@cache
def find(kind: str, source: str) -> Term:
    """The controlled term of ``source``, whatever its case and blanks.

    Raises
    ------
    KeyError
        ``kind`` is none of ``LISTS``.
    """
    if kind not in LISTS:
        raise KeyError(f"no controlled terms for {kind!r}. There are: {', '.join(LISTS)}.")
    plain = " ".join(source.upper().split())
    terms = TERMS[kind]
    term = plain if plain in terms else SYNONYMS[kind].get(plain)
    near = [] if term or not plain else get_close_matches(plain, [*terms, *SYNONYMS[kind]], n=1, cutoff=0.75)
    hint = SYNONYMS[kind].get(near[0], near[0]) if near else None
    code = terms[term] if term else None
    return Term(kind, source, term, code, LISTS[kind][0], CONCEPTS.get((kind, term or "")), hint)


def standard(kind: str, source: str) -> str:
    """The controlled term, or ``source`` itself where there is none."""
    return find(kind, source).term or source


def grade(source: str) -> int | None:
    """Severity on the five-grade scale, MINIMAL 1 to SEVERE 5 and "1 OF 5" to "5 OF 5"; None for anything else."""
    return GRADES.get(find("severity", source).term or "")


def is_normal(source: str) -> bool:
    """Does a result of an examination say that nothing was found?"""
    return find("finding", source).term == "UNREMARKABLE"


def table(sources: Mapping[str, Iterable[str | None]]) -> pl.DataFrame:
    """Every distinct source term by kind: kind, source, term, code, codelist, concept, hint, n (times it occurs)."""
    rows = []
    for kind, values in sources.items():
        for source, n in sorted(Counter(v for v in values if v).items()):
            t = find(kind, source)
            rows.append((kind, source, t.term, t.code, t.codelist, t.concept, t.hint, n))
    text = dict.fromkeys(("kind", "source", "term", "code", "codelist"), pl.String)
    return pl.DataFrame(rows, schema=text | {"concept": pl.Int64, "hint": pl.String, "n": pl.Int64}, orient="row")
