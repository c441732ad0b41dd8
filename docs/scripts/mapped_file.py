"""What the kernel does with a mapped file: python3 mapped_file.py [FOLDER] (Linux; needs numpy and 1.1 GB there).

Each case of the first part runs in a process of its own, since some end by a signal. The second part counts page
faults and processor time (user and system) to get a file of 1 GiB and add it up: the least of 5 runs from the page
cache, one run from the disk.
"""

import mmap, os, resource, signal, sys, tempfile, time
import numpy as np

PAGE = mmap.PAGESIZE
N_BYTES = 1 << 30


def mapping(path, flags=mmap.MAP_SHARED):
    file = os.open(path, os.O_RDONLY)
    size = os.fstat(file).st_size
    mapped = mmap.mmap(file, size, flags=flags, prot=mmap.PROT_READ)
    os.close(file)
    return mapped


def write_at(path, at, byte):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([byte]))


def cut(path, size):
    os.truncate(path, size)


def touch_beyond(path, flags=mmap.MAP_SHARED):
    mapped = mapping(path, flags)
    cut(path, PAGE + 10)
    return mapped[2 * PAGE]


def touch_in_memory_before(path):
    mapped = mapping(path)
    assert sum(mapped[::PAGE]) == 4 * 7
    cut(path, PAGE + 10)
    return mapped[2 * PAGE]


def touch_locked(path):
    import ctypes
    mapped = mapping(path)
    address = np.frombuffer(mapped, np.uint8).ctypes.data
    assert ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(4 * PAGE)) == 0, "mlock"
    cut(path, PAGE + 10)
    return mapped[2 * PAGE]


def touch_last_page(path):
    mapped = mapping(path)
    cut(path, PAGE + 10)
    return mapped[PAGE + 9], mapped[PAGE + 10], mapped[2 * PAGE - 1]


def write_in_place(path, flags=mmap.MAP_SHARED):
    mapped = mapping(path, flags)
    before = mapped[5]
    write_at(path, 5, 9)
    return before, mapped[5]


def replace(path):
    mapped = mapping(path)
    with open(path + ".new", "wb") as file:
        file.write(bytes([9]) * 4 * PAGE)
    os.rename(path + ".new", path)
    return mapped[5], mapped[2 * PAGE]


def delete(path):
    mapped = mapping(path)
    os.unlink(path)
    return mapped[5], mapped[2 * PAGE]


def append(path):
    mapped = mapping(path)
    with open(path, "ab") as file:
        file.write(b"\t" * PAGE)
    return len(mapped) // PAGE, os.stat(path).st_size // PAGE


def open_again_cut(path):  # cp over the file: the same inode is emptied, then filled
    mapped = mapping(path)
    with open(path, "wb") as file:
        file.write(bytes([9]) * 4 * PAGE)
    return mapped[5], mapped[2 * PAGE]


def read_beyond(path):
    file = os.open(path, os.O_RDONLY)
    cut(path, PAGE + 10)
    return len(os.pread(file, PAGE, PAGE)), len(os.pread(file, PAGE, 2 * PAGE))


CASES = [
    ("cut, then a page beyond the end is touched", touch_beyond),
    ("the same with MAP_PRIVATE", lambda path: touch_beyond(path, mmap.MAP_PRIVATE)),
    ("the same, page in memory before", touch_in_memory_before),
    ("the same, mapping locked (mlock)", touch_locked),
    ("cut, then the last page: byte before, at, after the end", touch_last_page),
    ("cut, then read past the end: bytes given", read_beyond),
    ("a byte written in place, MAP_SHARED", write_in_place),
    ("a byte written in place, MAP_PRIVATE", lambda path: write_in_place(path, mmap.MAP_PRIVATE)),
    ("another file renamed over it", replace),
    ("deleted", delete),
    ("a page appended: pages mapped, pages of the file", append),
    ("opened for writing and filled again", open_again_cut),
]


def in_child(case, folder):
    path = os.path.join(folder, "case.bin")
    with open(path, "wb") as file:
        file.write(bytes([7]) * 4 * PAGE)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, repr(case(path)).encode())
        except BaseException as error:  # an assertion that failed must not look like a result
            os.write(theirs, f"failed: {error!r}".encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        text = answer.read().decode()
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else text


def faults():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def add_up(buffer):
    return int(np.frombuffer(buffer, np.uint64).sum())


def mapped_with(advice):
    def way(path):
        mapped = mapping(path)
        if advice is not None:
            mapped.madvise(advice)
        return add_up(mapped)
    return way


def read_into_new(advice):
    def way(path):
        buffer = mmap.mmap(-1, N_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer.madvise(advice)
        view = memoryview(buffer)
        with open(path, "rb", buffering=0) as file:
            at = 0
            while at < N_BYTES:
                at += file.readinto(view[at:at + (16 << 20)])
        return add_up(buffer)
    return way


def read_into_small(path):
    buffer = bytearray(16 << 20)
    total = 0
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            total += add_up(buffer)
    return total


WAYS = [
    ("mmap", mapped_with(None), False),
    ("mmap, MADV_WILLNEED", mapped_with(mmap.MADV_WILLNEED), False),
    ("mmap, MADV_RANDOM", mapped_with(mmap.MADV_RANDOM), False),
    ("read into new memory, pages of 4 KiB", read_into_new(mmap.MADV_NOHUGEPAGE), False),
    ("read into new memory, huge pages", read_into_new(mmap.MADV_HUGEPAGE), False),
    ("read into one buffer of 16 MiB, again and again", read_into_small, False),
    ("not in the page cache: mmap", mapped_with(None), True),
    ("not in the page cache: mmap, MADV_WILLNEED", mapped_with(mmap.MADV_WILLNEED), True),
    ("not in the page cache: mmap, MADV_RANDOM", mapped_with(mmap.MADV_RANDOM), True),
]


def drop_from_cache(path):
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def main():
    folder = tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"Linux {os.uname().release}, pages of {PAGE} bytes\n")
    for name, case in CASES:
        print(f"{name:<60} {in_child(case, folder)}")
    path = os.path.join(folder, "big.bin")
    block = np.arange(1 << 21, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    with open(path, "wb") as file:
        for _ in range(N_BYTES // block.nbytes):
            file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())
    expected = None
    print()
    for name, way, cold in WAYS:
        found = []
        for _ in range(1 if cold else 5):
            if cold:
                drop_from_cache(path)
            before, start = faults(), time.process_time()
            total = way(path)
            found.append((time.process_time() - start, faults() - before))
            expected = total if expected is None else expected
            assert total & (2**64 - 1) == expected & (2**64 - 1), name
        print(f"{name:<50} {min(s for s, _ in found) * 1e3:5.0f} ms {min(n for _, n in found):7d} faults", flush=True)
    os.unlink(path)
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


main()
