"""The packages that the model is trained on: kinds of text, licences, and where in a package the text lies."""

from dataclasses import dataclass
from typing import Callable

import readers


@dataclass(frozen=True)
class Source:
    kind: str
    package: str
    licence: str
    paths: tuple                     # globs in the unpacked package; '!' in front leaves out
    read: Callable                   # (path) -> texts
    needs: tuple = ()                # other packages, unpacked to the same place
    most_bytes: int = 4_000_000


# How often a kind is drawn for training.
SHARES = {
    "english": 2.0,
    "german":  1.0,
    "french":  1.0,
    "c":       1.5,
    "python":  1.0,
    "html":    1.0,
    "numbers": 0.5,
}

HANDBOOK_LICENCE = "GPL-2+ or CC-BY-SA-3.0"


def of_manuals(kind, language, locale, reference_suffix):
    """Debian's manuals in one language."""
    suffix = "" if language == "en" else f"-{language}"
    folder = "" if language == "en" else f"{language}/"
    prose = readers.prose_of_html(kind)
    return [
        Source(kind, "debian-handbook", HANDBOOK_LICENCE,
               (f"usr/share/doc/debian-handbook/html/{locale}/*.html",), prose),
        Source(kind, f"debian-reference-{language}", "GPL-2+",
               (f"usr/share/debian-reference/*.{reference_suffix}.html",), prose),
        Source(kind, f"developers-reference{suffix}", "GPL-2+",
               (f"usr/share/developers-reference/{folder}*.html",), prose),
        Source(kind, f"debian-faq{suffix}", "GPL-2+", (f"usr/share/doc/debian/FAQ/{folder}*.html",), prose),
    ]


SOURCES = [
    Source("english", "bible-kjv-text", "public domain", ("usr/lib/bible.data",), readers.chapters_of_bible,
           needs=("bible-kjv",), most_bytes=2_500_000),
    *of_manuals("english", "en", "en-US", "en"),
    *of_manuals("german", "de", "de-DE", "de"),
    *of_manuals("french", "fr", "fr-FR", "fr"),
    Source("c", "glibc-source", "LGPL-2.1+", ("usr/src/glibc/glibc-*.tar.xz",), readers.c_of_tarball),
    Source("python", "libpython3.11-stdlib", "PSF-2", ("usr/lib/python3.11/**/*.py", "!*/lib2to3/*", "!*/pydoc_data/*"),
           readers.code),
    Source("python", "libpython3.11-minimal", "PSF-2", ("usr/lib/python3.11/**/*.py", "!*/encodings/*"), readers.code),
    Source("html", "postgresql-doc-15", "PostgreSQL", ("usr/share/doc/postgresql-doc-15/html/*.html",), readers.markup),
    Source("numbers", "python3-statsmodels", "BSD-3-clause, data sets public domain",
           ("usr/lib/python3/dist-packages/statsmodels/**/*.csv", "!*/frbny_nowcast/*"), readers.numbers),
]
