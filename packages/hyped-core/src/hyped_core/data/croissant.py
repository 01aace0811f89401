"""Croissant metadata (MLCommons, version 1.1) of a dataset: JSON-LD that search engines and loaders read.

The specification is at https://docs.mlcommons.org/croissant. Its context is written into the document, so that nothing
has to be fetched to read it. Croissant asks for a hash of every file: files whose sha256 nobody knows yet are named in
the description and not listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from hyped_core.data.card_facts import ContainerFacts, FileFacts
    from hyped_core.data.manifest import Manifest

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        term: f"cr:{term}"
        for term in (
            "arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet "
            "format includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex "
            "repeated replace samplingRate separator source subField transform"
        ).split()
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "sc": "https://schema.org/",
}
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".tsv": "text/tab-separated-values",
    ".gmt": "text/tab-separated-values",
    ".mtx": "text/plain",
    ".json": "application/json",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".h5": "application/x-hdf5",
    ".h5ad": "application/x-hdf5",
    ".parquet": "application/vnd.apache.parquet",
    ".pkl": "application/octet-stream",
    ".md": "text/markdown",
}
SPDX = ("BSD-3-Clause", "MIT", "Apache-2.0", "GPL-3.0-only", "CC-BY-4.0", "CC0-1.0")
"""Identifiers with a page at spdx.org by which Croissant would have a licence named."""
_RAI = {
    "dataCollection": ("collection", "how"),
    "dataPreprocessingProtocol": ("preprocessing", "done"),
    "dataBiases": ("composition", "errors"),
    "dataUseCases": ("uses", "suited"),
    "dataLimitations": ("uses", "limits"),
    "personalSensitiveInformation": ("composition", "people"),
    "dataReleaseMaintenancePlan": ("maintenance", "updates"),
}
"""Property of Croissant's vocabulary for responsible AI -> section and question of the datasheet."""
_ONE = ("dataCollection", "dataReleaseMaintenancePlan")


def croissant(
    manifest: Manifest,
    files: Sequence[FileFacts] = (),
    containers: Sequence[ContainerFacts] = (),
    tables: Mapping[str, tuple[pd.DataFrame, str]] | None = None,
) -> dict[str, Any]:
    """The document, as plain data in a fixed order.

    Parameters
    ----------
    tables
        Name of a CSV file beside the document -> the table in it and the file's sha256: each becomes a record set.
    """
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": manifest.name,
        "alternateName": manifest.title,
        "description": _description(manifest, files),
        "license": licence_links(manifest, files),
    }
    if manifest.citation:
        found["citeAs"] = " ".join(manifest.citation.split())
    if manifest.homepage:
        found["url"] = manifest.homepage
    for key, (section, question) in _RAI.items():
        answer = getattr(getattr(manifest.datasheet, section), question)
        if answer is not None:
            points = [answer] if isinstance(answer, str) else list(answer)
            found[f"rai:{key}"] = " ".join(points) if key in _ONE else points
    distribution = [_file_object(file) for file in files if file.sha256 and file.address]
    record_sets = []
    for container in containers:
        distribution += _of_container(container)
    for name, (table, sha256) in (tables or {}).items():
        distribution.append(_local_file(name, sha256, len(table)))
        record_sets.append(_record_set(name, table))
    if distribution:
        found["distribution"] = distribution
    if record_sets:
        found["recordSet"] = record_sets
    return found


def licence_links(manifest: Manifest, files: Sequence[FileFacts]) -> list[str]:
    """Licences of the files (or the dataset's), as addresses at spdx.org where they have one there."""
    found = []
    for text in sorted({file.licence for file in files} or {manifest.licence}):
        for part in re.split(r"\s*;\s*", text):
            known = next((name for name in SPDX if part == name or part.startswith(f"{name} ")), None)
            found.append(f"https://spdx.org/licenses/{known}.html" if known else part)
    return list(dict.fromkeys(found))


def identifier(path: str) -> str:
    """A path as an ``@id``: readers refuse blanks there, and a colon makes a prefix. Different paths stay different.

    >>> identifier("movies/S0.zarr"), identifier("a b:c")
    ('movies/S0.zarr', 'a~20b~3Ac')
    """
    return re.sub(
        r"[^A-Za-z0-9._/+-]", lambda found: "".join(f"~{byte:02X}" for byte in found.group().encode()), path
    )


def _description(manifest: Manifest, files: Sequence[FileFacts]) -> str:
    said = [" ".join((manifest.description or manifest.title).split())]
    if manifest.datasheet.research_only:
        said.append(manifest.datasheet.research_only)
    if unknown := [file.path for file in files if not file.sha256]:
        said.append(f"Not listed here, because no sha256 is known before the first fetch: {', '.join(unknown)}.")
    if manifest.release is not None and not files:
        said.append("Its files are not listed: sizes and hashes are recorded when it is fetched.")
    if manifest.made_by:
        said.append(f"It is made by a command, not downloaded: `{manifest.made_by}`.")
    return " ".join(said)


def _media_type(path: str) -> str:
    suffix = "." + path.rpartition(".")[2].lower() if "." in path else ""
    return MEDIA_TYPES.get(suffix, "application/octet-stream")


def _file_object(file: FileFacts) -> dict[str, Any]:
    found = {
        "@type": "cr:FileObject",
        "@id": identifier(file.path),
        "name": file.path,
        "description": f"Licence: {file.licence}." + (f" {file.note}" if file.note else ""),
        "contentUrl": file.address,
        "encodingFormat": _media_type(file.path),
        "sha256": file.sha256,
    }
    if file.n_bytes is not None:
        found["contentSize"] = f"{file.n_bytes} B"
    return found


def _local_file(name: str, sha256: str, rows: int) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": identifier(name),
        "name": name,
        "description": f"{rows} rows; lies beside this file.",
        "contentUrl": name,
        "encodingFormat": "text/csv",
        "sha256": sha256,
    }


def _of_container(facts: ContainerFacts) -> list[dict[str, Any]]:
    """The container's manifest (which has the hash of every part), and its parts as sets of files."""
    found: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": identifier(f"{facts.folder}/manifest.json"),
            "name": f"{facts.folder}/manifest.json",
            "description": "Names every part of the container with its sha256.",
            "contentUrl": f"{facts.folder}/manifest.json",
            "contentSize": f"{facts.manifest_bytes} B",
            "encodingFormat": "application/json",
            "sha256": facts.manifest_sha256,
        }
    ]
    for part in facts.parts:
        found.append(
            {
                "@type": "cr:FileSet",
                "@id": identifier(f"{facts.folder}/{part['path']}"),
                "name": f"{facts.folder}/{part['path']}",
                "description": f"{part['kind']}: {part['n_files']} files, {part['n_bytes']} bytes; sha256 over the "
                f"sorted hashes and paths of its files: {part['sha256']}",
                "encodingFormat": "application/vnd+zarr",
                "includes": f"{facts.folder}/{part['path']}/**",
            }
        )
    return found


def _record_set(name: str, table: pd.DataFrame) -> dict[str, Any]:
    stem = identifier(name.removesuffix(".csv"))
    first = str(table.columns[0])
    return {
        "@type": "cr:RecordSet",
        "@id": stem,
        "name": stem,
        "description": f"A row a {first}.",
        "key": {"@id": f"{stem}/{first}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{stem}/{column}",
                "name": f"{stem}/{column}",
                "description": DESCRIBED.get(str(column), str(column)),
                "dataType": _data_type(table[column]),
                "source": {"fileObject": {"@id": identifier(name)}, "extract": {"column": str(column)}},
            }
            for column in table.columns
        ],
    }


DESCRIBED = {
    "cell": "Name of the cell.",
    "condition": "Condition of the design; empty where it is not known.",
    "perturbation": "Perturbed genes, joined by +; control for control.",
    "pool": "Capture pool.",
    "phase": "Cell-cycle phase; empty where it is not known.",
    "hashtag_kind": "singlet, doublet or negative by its hashtags.",
    "n_counts": "Molecules (or reads) counted in the cell.",
    "n_genes": "Genes detected in the cell.",
    "scene": "Field of view.",
    "replicate": "Replicate of the condition.",
    "frames": "Time points.",
    "frames_missing": "Time points without a frame.",
    "height_px": "Height of a frame in pixels.",
    "width_px": "Width of a frame in pixels.",
    "channels": "Channels, in order.",
    "pixel_size_um": "Edge of a pixel in micrometres.",
    "first_h": "Hours of the first frame.",
    "last_h": "Hours of the last frame.",
}


def _data_type(column: pd.Series) -> str:
    """Croissant's type; whole numbers of which some are missing are read as floats, where missing is NaN."""
    if column.dtype.kind in "iu" and not column.isna().any():
        return "sc:Integer"
    return "sc:Float" if column.dtype.kind in "iuf" else "sc:Text"
