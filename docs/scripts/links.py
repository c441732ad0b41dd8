"""Do the links lead somewhere? Every relative link and every anchor of the repository's Markdown files, and of the built book.

    python3 docs/scripts/links.py              # the Markdown files that git knows
    python3 docs/scripts/links.py docs/book    # the HTML files below a folder

Prints one line for each broken link and ends with 1 if there is one. Links to other sites are not followed. Anchors of a Markdown
heading are what mdBook and GitHub make of it: lower case, punctuation dropped, spaces to hyphens, -1 and so on for repetitions.
"""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]


def slug(heading, seen):
    """The anchor of a heading; `seen` counts those of its page."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
    seen[name] = seen.get(name, -1) + 1
    return name if seen[name] == 0 else f"{name}-{seen[name]}"


def read_markdown(path):
    """The anchors and the links (line, target) of a Markdown file, without its code."""
    anchors, links, seen, fence = set(), [], {}, False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fence = not fence
        if fence or line.startswith("    "):
            continue
        if heading := re.match(r"#+ (.*)", line):
            anchors.add(slug(heading[1], seen))
        anchors.update(re.findall(r'\bid="([^"]+)"', line))
        plain = re.sub(r"`[^`]*`", "", line)
        links += [(number, target) for target in re.findall(r"\]\(<?([^)\s>]+)", plain)]
    return anchors, links


class Page(HTMLParser):
    """The anchors and links of an HTML file."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append((self.getpos()[0], value))


def read_html(path):
    page = Page(path.read_text(encoding="utf-8"))
    return page.anchors, page.links


def broken(files, read):
    """A line for each link that leads nowhere."""
    pages = {path.resolve(): read(path) for path in files}
    for path, (_, links) in sorted(pages.items()):
        for line, target in links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or parts.path.startswith("/"):
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not goal.exists():
                yield f"{path}:{line}: {target}: no such file"
            elif parts.fragment and goal in pages and unquote(parts.fragment) not in pages[goal][0]:
                yield f"{path}:{line}: {target}: no such anchor"


def main():
    if len(sys.argv) > 1:
        files, read = [path for path in Path(sys.argv[1]).rglob("*.html") if path.name != "toc.html"], read_html
    else:
        command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        files, read = [ROOT / name for name in names if name and (ROOT / name).exists()], read_markdown
    if not files:
        sys.exit("no files to check")
    faults = list(broken(files, read))
    print("\n".join(faults + [f"{len(files)} files, {len(faults)} broken links"]))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
