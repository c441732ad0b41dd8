#!/usr/bin/env python3
"""Lists the public reports that the reference pages link, with the page and section that each supports.

Usage: python sources.py write | check

Writes the list into gguf-sources-bibliography.md, between its markers, or says whether it is what stands there; exit code 1
where it is not.
"""

import pathlib
import re
import sys

REFERENCE = pathlib.Path(__file__).resolve().parents[1] / "src/reference"
BIBLIOGRAPHY = REFERENCE / "gguf-sources-bibliography.md"
BEGIN, END = "<!-- reports: begin -->\n", "<!-- reports: end -->\n"
LINK = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)/(?:issues|pull)/(\d+)")


def uses(page):
    """Each report of a page with the heading above it."""
    heading, in_code = "", False
    for line in page.read_text(encoding="utf-8").splitlines():
        in_code ^= line.startswith("```")
        if line.startswith("#") and not in_code:
            heading = line.lstrip("# ").replace("`", "")
        for link in LINK.finditer(line):
            yield link, heading


def table():
    found = {}
    for page in sorted(REFERENCE.glob("*.md")):
        if page == BIBLIOGRAPHY:
            continue
        title = page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for link, heading in uses(page):
            name, url = f"{link[1]}#{link[2]}", link[0]
            places = found.setdefault((link[1].lower(), int(link[2])), (name, url, {}))[2]
            places.setdefault((title, page.name), {})[heading] = None
    lines = ["| report | supports |\n|---|---|\n"]
    for _, (name, url, places) in sorted(found.items()):
        cells = [f"[{title}]({file}): {', '.join(headings)}" for (title, file), headings in places.items()]
        lines.append(f"| [{name}]({url}) | {'; '.join(cells)} |\n")
    return "".join(lines)


def main():
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if sys.argv[1:] == ["write"]:
        BIBLIOGRAPHY.write_text(wanted, encoding="utf-8")
    elif sys.argv[1:] != ["check"]:
        sys.exit(__doc__)
    elif wanted != text:
        sys.exit(f"{BIBLIOGRAPHY.name}: the list of reports is not what the pages link; run `sources.py write`")


if __name__ == "__main__":
    main()
