"""Files of a package to texts, one per document."""

import re
import subprocess
import tarfile
from html.parser import HTMLParser

BLOCKS  = {"p", "div", "li", "dd", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "tr", "blockquote"}
SKIPPED = {"script", "style", "head", "pre", "nav"}

# Words that tell a language; manuals leave what nobody has translated yet in English.
COMMON_WORDS = {
    "english": {"the", "of", "and", "to", "is", "that", "it", "for", "this", "with", "be", "are", "which", "you"},
    "german":  {"der", "die", "das", "und", "ist", "nicht", "zu", "den", "mit", "ein", "eine", "von", "für", "werden"},
    "french":  {"le", "la", "les", "des", "et", "est", "une", "un", "pour", "que", "dans", "du", "qui", "sur"},
}


class Paragraphs(HTMLParser):
    """The running text of a page, without listings."""

    def __init__(self):
        super().__init__()
        self.paragraphs, self.words, self.skipping = [], [], 0

    def end_paragraph(self):
        text = " ".join("".join(self.words).split())
        if text:
            self.paragraphs.append(text)
        self.words = []

    def handle_starttag(self, tag, attrs):
        self.skipping += tag in SKIPPED
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_endtag(self, tag):
        self.skipping -= tag in SKIPPED
        if tag in BLOCKS:
            self.end_paragraph()

    def handle_data(self, data):
        if not self.skipping:
            self.words.append(data)


def is_prose(paragraph, language):
    words = re.findall(r"\w+", paragraph.lower())
    counts = {name: sum(word in common for word in words) for name, common in COMMON_WORDS.items()}
    return len(words) >= 8 and counts[language] > 0 and counts[language] == max(counts.values())


def prose_of_html(language):
    def read(path):
        parser = Paragraphs()
        parser.feed(path.read_text("utf-8", "ignore"))
        parser.close()
        parser.end_paragraph()
        yield "\n\n".join(text for text in parser.paragraphs if is_prose(text, language))
    return read


def chapters_of_bible(path):
    root = path.parents[2]
    whole = subprocess.run([root / "usr/bin/bible", "-p", path.parent, "gen1:1-rev22:21"],
                           check=True, capture_output=True, text=True).stdout
    for chapter in re.split(r"\n\n(?=\S[^\n]* \d+\n\n)", whole.strip()):
        title, _, verses = chapter.partition("\n\n")
        yield title + "\n\n" + re.sub(r"\n(?! *\d)", " ", verses).replace("\n  ", "\n").strip()


def without_first_comment(text):
    """Thousands of files begin with the same licence."""
    return re.sub(r"\A\s*/\*.*?\*/\s*", "", text, flags=re.DOTALL)


def c_of_tarball(path):
    with tarfile.open(path) as tarball:
        for member in tarball:
            name = member.name.partition("/")[2]
            if member.isfile() and name.endswith(".c") and not re.search(r"tst-|test|bug-|iconvdata|math|/fpu/", name):
                yield without_first_comment(tarball.extractfile(member).read().decode("utf-8", "ignore"))


def code(path):
    yield path.read_text("utf-8", "ignore")


def markup(path):
    """Pages whose navigation would be half of what is learnt begin at their title."""
    text = path.read_text("utf-8", "ignore")
    yield re.sub(r"\A.*?</div>(?=<div)", "", text, count=1, flags=re.DOTALL)


def numbers(path):
    yield path.read_text("utf-8", "ignore")[:60_000]
