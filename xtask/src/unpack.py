"""Takes the members of a zip or tar archive whose path matches PATTERN into FOLDER, under their last name.

Usage: unpack.py ARCHIVE PATTERN FOLDER
"""
import fnmatch, os, posixpath, shutil, sys, tarfile, zipfile

archive, pattern, folder = sys.argv[1:]


def take(name, source):
    with source, open(os.path.join(folder, posixpath.basename(name)), "xb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


if zipfile.is_zipfile(archive):
    with zipfile.ZipFile(archive) as z:
        for m in z.infolist():
            if not m.is_dir() and fnmatch.fnmatchcase(m.filename, pattern):
                take(m.filename, z.open(m))
else:
    with tarfile.open(archive, "r|*") as t:
        for m in t:
            if m.isfile() and fnmatch.fnmatchcase(m.name, pattern):
                take(m.name, t.extractfile(m))
