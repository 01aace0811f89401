"""The design against pools and tags, before anything is done: everything that does not fit, at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hyped_core.design import Design, Hashtag, read_design
from hyped_core.design.model import CONTROL
from hyped_core.errors import HypedError, InvalidDataError, Problem, ValidationError
from hyped_seq.hashtags.counts import read_hashtag_counts
from hyped_seq.hashtags.files import ILLUMINA_MEND, is_fastq, is_illumina_pair
from hyped_seq.hashtags.names import name_tags
from hyped_seq.ingest.kinds import TAGS
from hyped_seq.ingest.params import IngestParams
from hyped_seq.process.source import Source, is_hashtag_table, pool_files
from hyped_seq.readers.mex import is_mex, read_mex_features
from hyped_seq.release.plain import file_names

FILL_IN = "FILL-IN"
"""Where a started design waits for its user."""


def read_filled_design(path: Path) -> Design:
    """The design in ``path``, as `hyped_core.design.read_design`; what is still to be filled in is said so.

    Raises
    ------
    MissingFileError, ValidationError
        As `hyped_core.design.read_design`.
    """
    try:
        return read_design(path)
    except ValidationError as error:
        mend = f"write a condition in place of {FILL_IN}, and list it under `conditions`"
        problems = [replace(item, mend=mend) if FILL_IN in item.message else item for item in error.problems]
        if problems == list(error.problems):
            raise
        title = error.message.partition(":")[0]
        raise ValidationError(title, problems, where=error.where) from error


def check_pools(source: Source) -> None:
    """Refuse pools and libraries that hold nothing that can be read.

    Raises
    ------
    ValidationError
        A pool without counts, or a library of reads of another machine.
    """
    problems = [*_empty_pools(source), *(item for name in source.hashtags for item in _illumina(source, name))]
    if problems:
        raise ValidationError("pools cannot be read", problems)


def _empty_pools(source: Source) -> Iterator[Problem]:
    for path in source.pools.values():
        if not pool_files(path):
            yield Problem(str(path), "holds no counts", "give a wf-single-cell or MEX folder, .h5, .h5ad or .csv")


def _illumina(source: Source, name: str) -> Iterator[Problem]:
    library = source.hashtags[name]
    if is_fastq(library) and is_illumina_pair(library):
        yield Problem(
            str(library), "holds reads of Illumina (R1 and R2), and nanopore reads alone are counted here",
            f"{ILLUMINA_MEND}: --hashtags {name}=TABLE",
        )  # fmt: skip


def check_design(source: Source, design: Design, params: IngestParams, where: object = None) -> list[str]:
    """Refuse a design that does not fit the pools and the tags; returns what to look at all the same.

    Raises
    ------
    ValidationError
        With every problem, its place and the mend.
    """
    problems = list(_problems(source, design, params))
    if problems:
        raise ValidationError("design and data do not fit", problems, where=where or f"design {design.name!r}")
    absent = [pool.name for pool in design.pools if pool.name not in source.pools]
    unused = [name for name in unhashed(design, source.pools) if name in source.hashtags]
    return [
        *_no_control(source, design),
        *(f"pool {name} of the design was not given and is left out" for name in absent),
        *(f"{source.hashtags[name]} is not used: the design names no hashtag of pool {name}" for name in unused),
    ]


def _no_control(source: Source, design: Design) -> Iterator[str]:
    """Without a condition of that name nothing is held against the untreated cells."""
    here = {tag.condition for tag in design.hashtags if tag.pool in source.pools}
    here |= set(unhashed(design, source.pools).values())
    if len(here) > 1 and CONTROL not in here and any(_has_genes(name, source, design) for name in source.pools):
        named = {tag.condition for tag in design.hashtags}.union(*(pool.conditions for pool in design.pools))
        mend = f"the pool of {CONTROL} was not given" if CONTROL in named else (
            "give the untreated one that name in the design")  # fmt: skip
        yield f"no condition here is called {CONTROL}, so conditions are held against one another only; {mend}"


def _has_genes(name: str, source: Source, design: Design) -> bool:
    """Whether a pool has more than hashtags, as far as its table of features says."""
    path = source.pools[name]
    if is_hashtag_table(path):
        return False
    if not is_mex(path):
        return True
    features = read_mex_features(path)
    tags = {tag.tag for tag in design.pool_hashtags(name)}
    plain = features[~features["name"].isin(tags)]
    return not plain["kind"].isin(TAGS).all() if "kind" in plain else bool(len(plain))


def unhashed(design: Design, pools: dict[str, Path]) -> dict[str, str]:
    """Pools for which the design names no hashtag -> their one condition."""
    hashed = {tag.pool for tag in design.hashtags}
    return {
        pool.name: pool.conditions[0] for pool in design.pools
        if pool.name in pools and pool.name not in hashed and len(pool.conditions) == 1
    }  # fmt: skip


def _problems(source: Source, design: Design, params: IngestParams) -> Iterator[Problem]:
    known = {pool.name: pool for pool in design.pools}
    listed = ", ".join(known) or "none"
    yield from _empty_pools(source)
    yield from _one_name(sorted({tag.tag for tag in design.hashtags if tag.pool in source.pools}))
    for name, path in source.pools.items():
        if name not in known:
            yield Problem(
                f"pools/{name}", f"the design has no pool {name!r}",
                f"add it, or say which it is: NAME={path}; pools there: {listed}",
            )  # fmt: skip
            continue
        tags = {tag.tag: tag for tag in design.pool_hashtags(name)}
        for tag in tags.values():
            if known[name].conditions and tag.condition not in known[name].conditions:
                yield Problem(
                    f"hashtags/{name}/{tag.tag}/condition",
                    f"{tag.condition!r} is not among the conditions of its pool",
                    f"conditions of {name}: {', '.join(known[name].conditions)}",
                )
        library = source.hashtags.get(name)
        if not tags:
            yield from _unhashed_problems(name, known[name].conditions, library if name in source.given else None)
        elif library is None:
            yield from _no_library(name, path, list(tags), params)
        elif is_fastq(library):
            yield from _illumina(source, name)
            yield from (
                Problem(f"hashtags/{name}/{tag.tag}/barcode", "counting reads needs the tag's sequence",
                        "add its barcode, or give counts in place of reads")
                for tag in tags.values() if not tag.barcode
            )  # fmt: skip
        else:
            yield from _table_problems(name, library, list(tags.values()), params)


def _one_name(tags: list[str]) -> Iterator[Problem]:
    """Tags that could not stand beside one another in the result."""
    try:
        file_names(tags, "hashtags")
    except InvalidDataError as error:
        yield Problem("hashtags", error.message, error.mend or "")


def _unhashed_problems(name: str, conditions: tuple[str, ...], library: Path | None) -> Iterator[Problem]:
    if library is not None:
        yield Problem(f"pools/{name}", f"the design names none of its hashtags, and {library} holds some",
                      f"list them, or leave --hashtags {name}= out")  # fmt: skip
    if len(conditions) != 1:
        yield Problem(
            f"pools/{name}/conditions",
            f"has no hashtags and {len(conditions)} conditions: its cells cannot be told apart",
            "name its one condition, or list its hashtags",
        )  # fmt: skip


def _no_library(name: str, path: Path, tags: list[str], params: IngestParams) -> Iterator[Problem]:
    """No library beside or inside the pool's folder; its matrix may hold the tags among its features."""
    if not path.is_dir():
        return  # reading the file tells
    if is_mex(path):
        features = read_mex_features(path)
        if set(features["name"]) & set(tags) or set(features.get("kind", ())) & set(TAGS):
            return
        inside = f", nor are they among the {len(features)} features of its matrix"
    else:
        inside = ""
    yield Problem(
        f"pools/{name}",
        f"the design names hashtags of it, and {path / params.hashtag_folder} holds no library{inside}",
        f"say where they are: --hashtags {name}=PATH (count table, MEX folder or FASTQ)",
    )  # fmt: skip


def _table_problems(name: str, library: Path, hashtags: list[Hashtag], params: IngestParams) -> Iterator[Problem]:
    """Tags that only one side knows."""
    tags = [tag.tag for tag in hashtags]
    try:
        matrix, _ = name_tags(read_hashtag_counts(library, tags), hashtags)
        names = [str(found) for found in matrix.features["name"]]
    except HypedError as error:
        yield Problem(str(error.where or library), error.message, error.mend or "")
        return
    here = f"the counts hold {', '.join(names)}"
    for tag in tags:
        if tag not in names and params.absent_tags == "error":
            yield Problem(f"hashtags/{name}/{tag}", f"is not in {library}", f"correct its name; {here}")
    for found in names:
        if found not in tags and params.unlisted_tags == "error":
            yield Problem(
                f"hashtags/{name}", f"tag {found!r} of {library} is not in the design",
                "add it, or set `ingest: {unlisted_tags: drop}` in the parameters",
            )  # fmt: skip
