"""Writes the archives of a release from a plan on stdin (xtask/src/dist/plan.rs), so that the same plan gives the same bytes.

Entries are sorted and belong to root; every time is the plan's. A Debian package is an `ar` archive of two others (deb(5)), a wheel a zip whose
RECORD has the hash of each entry.
"""
import base64, gzip, hashlib, io, json, sys, tarfile, time, zipfile


def content(entry):
    if "text" in entry:
        return entry["text"].encode()
    with open(entry["source"], "rb") as source:
        return source.read()


def tar_gz(entries, plan):
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=plan["epoch"], compresslevel=plan["level"]) as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            folders = set()
            for entry in sorted(entries, key=lambda entry: entry["name"]):
                parts = entry["name"].split("/")[:-1]
                for depth in range(1, len(parts) + 1):
                    folder = "/".join(parts[:depth])
                    if folder not in folders:
                        folders.add(folder)
                        tar.addfile(header(folder, 0o755, plan["epoch"], tarfile.DIRTYPE))
                data = content(entry)
                info = header(entry["name"], entry["mode"], plan["epoch"], tarfile.REGTYPE)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def header(name, mode, epoch, kind):
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.type, info.uname, info.gname = mode, epoch, kind, "root", "root"
    return info


def deb(archive, plan):
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar_gz(archive["control"], plan),
        "data.tar.gz": tar_gz(archive["entries"], plan),
    }
    packed = b"!<arch>\n"
    for name, data in members.items():
        packed += f"{name:<16}{plan['epoch']:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
        packed += data + b"\n" * (len(data) % 2)
    return packed


def wheel(archive, plan):
    packed, record = io.BytesIO(), ""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=plan["level"]) as out:
        # The metadata stands last in the file, as the specification recommends.
        for entry in sorted(archive["entries"], key=lambda entry: (".dist-info/" in entry["name"], entry["name"])):
            data = content(entry)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{entry['name']},sha256={digest},{len(data)}\n"
            add(out, entry["name"], entry["mode"], data, plan)
        add(out, archive["record"], 0o644, f"{record}{archive['record']},,\n".encode(), plan)
    return packed.getvalue()


def add(out, name, mode, data, plan):
    # A zip's times begin in 1980.
    info = zipfile.ZipInfo(name, max(time.gmtime(plan["epoch"])[:6], (1980, 1, 1, 0, 0, 0)))
    info.external_attr, info.compress_type, info.create_system = (0o100000 | mode) << 16, zipfile.ZIP_DEFLATED, 3
    out.writestr(info, data, compresslevel=plan["level"])


plan = json.load(sys.stdin)
kinds = {"tar.gz": lambda archive, plan: tar_gz(archive["entries"], plan), "wheel": wheel, "deb": deb}
for archive in plan["archives"]:
    packed = kinds[archive["kind"]](archive, plan)
    with open(archive["path"], "wb") as out:
        out.write(packed)
