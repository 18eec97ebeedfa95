"""`references.bib`, the citation file, and the places that cite agree; and what README shows in Python runs."""

import json
import re
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
_ENTRY = re.compile(r"^@(\w+)\{([^,\s]+),\n(.*?)^\}", flags=re.DOTALL | re.MULTILINE)
_CITATION = re.compile(r"\[((?:@[a-z0-9]+(?:; ?)?)+)\]")
_LISTED = re.compile(r"^(listed by S\d|notes' own paper)$")


def entries(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Kind, key and fields of every entry."""
    return [
        (kind, key, dict(re.findall(r"^ +(\w+) *= \{(.*)\},?$", body, flags=re.MULTILINE)))
        for kind, key, body in _ENTRY.findall(text)
    ]


def cited_keys(text: str) -> set[str]:
    """Keys of all citations ``[@key]`` and ``[@key; @other]`` in a text."""
    return {key.strip().lstrip("@") for group in _CITATION.findall(text) for key in group.split(";") if key.strip()}


def prose(root: Path) -> dict[str, str]:
    """File name to text of everything that may cite."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(root.glob("*.md"))}
    texts |= {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in sorted((root / "lt_lib").rglob("*.py"))}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path.name] = "\n".join("".join(cell["source"]) for cell in cells)
    return texts


def citation_problems(bibliography: str, texts: dict[str, str]) -> list[str]:
    """What does not agree between a bibliography and texts."""
    found = entries(bibliography)
    notes = {key: fields.get("note", "") for _, key, fields in found}
    uses = {name: cited_keys(text) for name, text in texts.items()}
    problems = [f"{name} cites {key}" for name, keys in uses.items() for key in sorted(keys - set(notes))]
    used = set().union(*uses.values()) if uses else set()
    problems += [f"{key} is not cited" for key, note in notes.items() if key not in used and not _LISTED.match(note)]
    problems += [f"{key} stands twice" for key, n in Counter(key for _, key, _ in found).items() if n > 1]
    return problems


def test_every_entry_is_read_and_complete(repository):
    text = (repository / "references.bib").read_text(encoding="utf-8")
    found = entries(text)
    assert len(found) == len(re.findall(r"^@", text, flags=re.MULTILINE)) >= 28
    where = {"inproceedings": "booktitle", "article": "journal", "misc": "eprint"}
    for kind, key, fields in found:
        assert {"title", "author", "year", where[kind]} <= set(fields), key
        first_author = fields["author"].split(",")[0].lower().replace(" ", "")
        assert key.startswith(first_author + fields["year"]), key


def test_no_key_is_undefined_or_unused(repository):
    bibliography = (repository / "references.bib").read_text(encoding="utf-8")
    assert citation_problems(bibliography, prose(repository)) == []


def test_undefined_unused_and_repeated_keys_are_found():
    entry = "@misc{a2000x,\n  title = {T},\n}\n"
    assert citation_problems(entry, {"README.md": "as shown [@a2000x]"}) == []
    assert citation_problems(entry, {"README.md": "as shown [@a2000x; @b2001y]"}) == ["README.md cites b2001y"]
    assert citation_problems(entry, {"README.md": "mail me@a2000x"}) == ["a2000x is not cited"]
    assert citation_problems(entry.replace("{T}", "{T},\n  note = {listed by S1}"), {}) == []
    assert citation_problems(entry + entry, {"README.md": "[@a2000x]"}) == ["a2000x stands twice"]


def test_readme_has_a_row_for_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert readme.count(f"| [{path.name[:3]}](notebooks/{path.name})") == 1


def test_the_python_of_the_readme_runs(capsys):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[1. 0. 0.]\n0.")


def test_the_citation_file_names_the_papers_behind_the_notes():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    bibliography = (ROOT / "references.bib").read_text(encoding="utf-8").replace("{CReST}", "CReST")
    assert len(citation["references"]) == 4
    for paper in citation["references"]:
        entry = bibliography[bibliography.index(f"{{{paper['title']}}}") :].partition("\n}")[0]
        assert f"year      = {{{paper['year']}}}" in entry
        assert all(author["family-names"] in entry for author in paper["authors"])
