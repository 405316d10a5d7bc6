"""A store's `croissant.json`: the dataset for programs, in Croissant 1.1 (JSON-LD). Pure.

The specification is at https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. Paths
are relative to the file, so that a store may be moved or uploaded. Splits are not files: `splits`
lists them, and `README.md` says how a program finds a drawing's.
"""

import json
from typing import Any

from quickdraw_core.dataset_card.content import LICENCE, SOURCE, CardContent
from quickdraw_core.store.manifest import MANIFEST_NAME
from quickdraw_core.store.schema import SCHEMA

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
FILES = "drawings/*/*.parquet"
_FILE_SET = "parquet-files"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

COLUMNS = {
    "key_id": ("cr:UInt64", "Identifier of the drawing, unique in the store."),
    "countrycode": ("sc:Text", "ISO 3166-1 code of the player's country; null if unknown."),
    "recognized": ("sc:Boolean", "Whether the game guessed the word; null if unknown."),
    "timestamp": ("sc:DateTime", "When it was made, UTC; null if unknown."),
    "x": ("sc:Text", "x of each point, 0 (left) to 255, a byte each; all strokes end to end."),
    "y": ("sc:Text", "y of each point, 0 (top) to 255, a byte each; all strokes end to end."),
    "stroke_lengths": ("sc:Text", "Points of each stroke, uint16, little-endian."),
}
"""Column of the Parquet files → its Croissant type, and what it holds. Croissant has no type for
binary values; `mlcroissant` gives bytes for text.
"""


def croissant_json(content: CardContent, manifest_sha256: str, description: str) -> str:
    """The text of `croissant.json`. `identifier` is the store's fingerprint.

    description: of the dataset, in some sentences.
    """
    value = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": content.title,
        "description": description,
        "conformsTo": CONFORMS_TO,
        "identifier": content.manifest.fingerprint,
        "version": "1.0.0",
        "license": LICENCE,
        "url": SOURCE,
        "creator": {"@type": "sc:Organization", "name": "Google, Inc.", "url": SOURCE},
        "datePublished": "2017-05-18",  # of Google's dataset
        "citeAs": "Jongejan, Rowley, Kawashima, Kim, Fox-Gieg: The Quick, Draw! Dataset, 2017, "
        f"{SOURCE}",
        "keywords": ["Quick, Draw!", "sketches", "doodles", "strokes"],
        "isLiveDataset": False,
        "distribution": _distribution(manifest_sha256),
        "recordSet": _record_sets(content),
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _distribution(manifest_sha256: str) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": MANIFEST_NAME,
            "name": MANIFEST_NAME,
            "description": "Sources, rows, rejected rows and SHA-256 of each Parquet file.",
            "contentUrl": MANIFEST_NAME,
            "encodingFormat": "application/json",
            "sha256": manifest_sha256,
        },
        {
            "@type": "cr:FileSet",
            "@id": _FILE_SET,
            "name": _FILE_SET,
            "description": "The drawings: a folder for each word.",
            "encodingFormat": "application/x-parquet",
            "includes": FILES,
        },
    ]


def _record_sets(content: CardContent) -> list[dict[str, Any]]:
    total = content.total
    splits = {"train": total.train, "validation": total.validation, "test": total.test}
    sets = [_drawings(content), _inline("splits", "split", "cr:Split", splits)]
    if content.words:
        rows = {word: content.splits[word].rows for word in content.words}
        sets.append(_inline("words", "word", "sc:Text", rows))
    return sets


def _drawings(content: CardContent) -> dict[str, Any]:
    fields = [
        _field("drawings", name, *COLUMNS[name], extract={"column": name}) for name in SCHEMA.names
    ]
    if content.words:
        text = "The word that was to be drawn, with underscores for spaces: from the folder."
        word = _field("drawings", "word", "sc:Text", text, extract={"fileProperty": "fullpath"})
        word["source"]["transform"] = {"regex": r"^.*word=([^/]+)/[^/]+$"}
        fields.append(word)
    return {
        "@type": "cr:RecordSet",
        "@id": "drawings",
        "name": "drawings",
        "description": "A record a drawing.",
        "key": {"@id": "drawings/key_id"},
        "field": fields,
    }


def _inline(name: str, column: str, kind: str, rows: dict[str, int]) -> dict[str, Any]:
    """A record set whose records stand in the file: a name, and its drawings."""
    record_set = {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"Drawings of each {column}.",
        "key": {"@id": f"{name}/{column}"},
        "field": [
            _field(name, column, "sc:Text", f"Name of the {column}."),
            _field(name, "rows", "sc:Integer", "Number of its drawings."),
        ],
        "data": [{f"{name}/{column}": key, f"{name}/rows": n} for key, n in rows.items()],
    }
    return record_set if kind == "sc:Text" else {**record_set, "dataType": kind}


def _field(
    record_set: str, name: str, kind: str, text: str, extract: dict[str, str] | None = None
) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": text,
        "dataType": kind,
    }
    if extract is not None:
        field["source"] = {"fileSet": {"@id": _FILE_SET}, "extract": extract}
    return field
