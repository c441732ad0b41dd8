//! Where do a file's bytes live?
//!
//! A file is mapped read-only and never copied: [`TensorBytes`] is a range of the mapping that keeps it alive. Pages are
//! read from the disk when first touched; [`TensorBytes::prefetch`] asks for them ahead. Offsets and lengths in bytes.
//!
//! A page that the file does not have any more, or that the disk cannot give, raises SIGBUS when it is touched. A handler ([`guard`]) lets
//! whoever touched it read zeros instead and notes that the mapping is lost; what was computed since is then of no use, and the one who
//! computes has to ask ([`TensorBytes::is_lost`]) before anything of it is given away. A file may be copied into memory instead
//! ([`TensorBytes::read`]). The only file of this crate with `unsafe`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::{Advice, Mmap, MmapMut};

use crate::error::GgufError;
use crate::watch::Opened;

/// A range of a mapped file, or bytes in memory. Clones share the bytes.
#[derive(Clone)]
pub struct TensorBytes {
    backing: Arc<Backing>,
    /// Invariant: `start <= end <= backing.len()`.
    start: usize,
    end: usize,
}

enum Backing {
    /// The guard goes first, so that it never covers what is not mapped.
    Mapped {
        guard: guard::Guard,
        map: Mmap,
        opened: Opened,
    },
    /// A copy of a file.
    Copied {
        map: Mmap,
        opened: Opened,
    },
    Memory(Vec<u8>),
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Backing::Mapped { map, .. } | Backing::Copied { map, .. } => map,
            Backing::Memory(bytes) => bytes,
        }
    }
}

impl TensorBytes {
    /// Maps a whole regular file. Its length is fixed here; what is appended later is not seen.
    pub(crate) fn map(path: &Path) -> Result<TensorBytes, GgufError> {
        let io = |error| GgufError::Io { path: path.to_owned(), error };
        // Before opening, because opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(io)?;
        let opened = Opened::new(path, file.try_clone().map_err(io)?).map_err(io)?;
        // SAFETY: the mapping is read-only and lives as long as the `Arc` that owns it, so no slice outlives it. The bytes
        // must not change while mapped, which no program can prove of a file: it relies on nobody writing to a model file
        // in use. Replacing one by renaming a new file over it is safe, because the mapping keeps the old one; one that is cut short is the
        // guard's.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let guard = guard::Guard::over(&map).map_err(io)?;
        let end = map.len();
        Ok(TensorBytes { backing: Arc::new(Backing::Mapped { guard, map, opened }), start: 0, end })
    }

    /// Reads a whole regular file into memory, of which its length is taken at once.
    pub(crate) fn read(path: &Path) -> Result<TensorBytes, GgufError> {
        let io = |error| GgufError::Io { path: path.to_owned(), error };
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_owned() });
        }
        let mut file = File::open(path).map_err(io)?;
        let opened = Opened::new(path, file.try_clone().map_err(io)?).map_err(io)?;
        let end = usize::try_from(file.metadata().map_err(io)?.len()).unwrap_or(usize::MAX);
        // Pages, and not a vector, so that they can be locked and have the alignment of a mapped file.
        let mut map = MmapMut::map_anon(end.max(1)).map_err(io)?;
        file.read_exact(map.get_mut(..end).unwrap_or_default()).map_err(io)?;
        let map = map.make_read_only().map_err(io)?;
        Ok(TensorBytes { backing: Arc::new(Backing::Copied { map, opened }), start: 0, end })
    }

    /// Keeps the whole file in memory, so that the kernel never has to read a part of it again.
    pub(crate) fn lock(&self) -> Result<(), GgufError> {
        match &*self.backing {
            Backing::Mapped { map, opened, .. } | Backing::Copied { map, opened } => map
                .lock()
                .map_err(|error| GgufError::Lock { path: opened.path().to_owned(), len: map.len(), error }),
            Backing::Memory(_) => Ok(()),
        }
    }

    /// Whether a page of the file could not be read when it was touched. Zeros were read in its place.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(&*self.backing, Backing::Mapped { guard, .. } if guard.is_lost())
    }

    /// The file, and how it was when it was opened; none for bytes in memory.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        match &*self.backing {
            Backing::Mapped { opened, .. } | Backing::Copied { opened, .. } => Some(opened),
            Backing::Memory(_) => None,
        }
    }

    /// The bytes of `range`, counted from the start of these, sharing the same mapping.
    ///
    /// # Errors
    /// [`GgufError::Range`] if the range ends before it starts or ends past these bytes.
    pub fn slice(&self, range: Range<usize>) -> Result<TensorBytes, GgufError> {
        if range.start > range.end || range.end > self.len() {
            return Err(GgufError::Range { range, len: self.len() });
        }
        let start = self.start + range.start;
        Ok(TensorBytes { backing: Arc::clone(&self.backing), start, end: start + (range.end - range.start) })
    }

    /// Where these bytes start in their file.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.start
    }

    /// Asks the kernel to read the bytes from the disk in the background. It is a hint: a refusal changes nothing but speed.
    pub fn prefetch(&self) {
        if let Backing::Mapped { map, .. } = &*self.backing {
            let _ = map.advise_range(Advice::WillNeed, self.start, self.end - self.start);
        }
    }

    /// Waits until every page has been in memory once, by reading a byte of each.
    pub fn prefault(&self) {
        let sum = self.iter().step_by(4096).fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        std::hint::black_box(sum);
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.backing.bytes()[self.start..self.end]
    }
}

impl AsRef<[u8]> for TensorBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for TensorBytes {
    fn from(bytes: Vec<u8>) -> TensorBytes {
        let end = bytes.len();
        TensorBytes { backing: Arc::new(Backing::Memory(bytes)), start: 0, end }
    }
}

impl PartialEq for TensorBytes {
    fn eq(&self, other: &TensorBytes) -> bool {
        **self == **other
    }
}

impl Eq for TensorBytes {}

impl fmt::Debug for TensorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorBytes({} bytes at {})", self.len(), self.start)
    }
}

mod guard {
    //! What happens when a page of a mapped file cannot be had?
    //!
    //! The kernel raises SIGBUS on the thread that touched it. The handler puts zero pages where the rest of the mapping was and returns, so
    //! that the thread goes on. Every other SIGBUS is left to the handler that was there before. Source: sigaction(2), mmap(2).

    use std::io;
    use std::mem::MaybeUninit;
    use std::ops::Range;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use libc::{c_int, c_void, siginfo_t};

    /// Mappings at once: two models of the most files that one may have.
    const N_SLOT: usize = 2 * crate::limits::MAX_SPLIT_FILES;

    /// A mapping that the handler knows. A handler may not wait for a lock, so these are a table of atomics.
    struct Slot {
        /// Its first byte; [`FREE`] or [`TAKEN`] where there is none.
        start: AtomicUsize,
        end: AtomicUsize,
        is_lost: AtomicBool,
    }

    /// No mapping begins at these addresses: the first page is never mapped, and the last byte begins no page.
    const FREE: usize = 0;
    const TAKEN: usize = usize::MAX;

    static SLOTS: [Slot; N_SLOT] = [const {
        Slot { start: AtomicUsize::new(FREE), end: AtomicUsize::new(0), is_lost: AtomicBool::new(false) }
    }; N_SLOT];

    /// What was there before; `None` where the handler could not be installed.
    static BEFORE: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

    static PAGE: AtomicUsize = AtomicUsize::new(4096);

    /// Watches over a mapping while it lives.
    pub(super) struct Guard(Option<&'static Slot>);

    impl Guard {
        pub(super) fn over(bytes: &[u8]) -> io::Result<Guard> {
            if bytes.is_empty() {
                return Ok(Guard(None));
            }
            BEFORE.get_or_init(install).as_ref().map_err(|&code| io::Error::from_raw_os_error(code))?;
            let take = |slot: &&Slot| {
                slot.start.compare_exchange(FREE, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            };
            let slot = SLOTS.iter().find(take);
            let slot = slot.ok_or_else(|| io::Error::other("too many files are mapped at once"))?;
            let Range { start, end } = bytes.as_ptr_range();
            slot.is_lost.store(false, Ordering::Relaxed);
            slot.end.store(end.addr(), Ordering::Relaxed);
            slot.start.store(start.addr(), Ordering::Release);
            Ok(Guard(Some(slot)))
        }

        pub(super) fn is_lost(&self) -> bool {
            self.0.is_some_and(|slot| slot.is_lost.load(Ordering::Acquire))
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            if let Some(slot) = self.0 {
                slot.start.store(FREE, Ordering::Release);
            }
        }
    }

    fn install() -> Result<libc::sigaction, i32> {
        let failed = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        if let Some(page) = usize::try_from(page).ok().filter(|page| page.is_power_of_two()) {
            PAGE.store(page, Ordering::Relaxed);
        }
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_bus;
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a zeroed sigaction is a valid one (no flags, an empty mask, the default action), whose handler is then set to a function with
        // the signature that SA_SIGINFO asks for; `before` is written by the kernel and, zeroed, is valid even if it were not.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            match libc::sigaction(libc::SIGBUS, &raw const action, before.as_mut_ptr()) {
                0 => Ok(before.assume_init()),
                _ => Err(failed()),
            }
        }
    }

    /// Runs wherever the fault was: it takes no lock, allocates nothing and calls nothing but the kernel.
    extern "C" fn on_bus(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t, whose address is that of the fault for SIGBUS.
        let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
        // What a process sent has no address.
        if code > 0 && SLOTS.iter().any(|slot| mend(slot, address)) {
            return;
        }
        // SAFETY: what the kernel gave as the action before, or a zeroed sigaction, which is the default; both are valid. A fault then comes
        // again and meets it. A signal that was sent does not, so it is raised once more and delivered on return, to the default action: the
        // handler of Rust's runtime, which is the one before, would take it for a fault that comes again. Both calls are safe in a handler.
        unsafe {
            let default = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            let before = BEFORE.get().and_then(|before| before.as_ref().ok()).filter(|_| code > 0);
            libc::sigaction(signal, before.unwrap_or(&default), ptr::null_mut());
            if code <= 0 {
                libc::raise(signal);
            }
        }
    }

    /// Puts zero pages from the fault's to the end of the mapping, if it is in this one.
    fn mend(slot: &Slot, address: usize) -> bool {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Relaxed);
        if start == FREE || address < start || address >= end {
            return false;
        }
        // Before anything reads a zero.
        slot.is_lost.store(true, Ordering::SeqCst);
        let first = address & !(PAGE.load(Ordering::Relaxed) - 1);
        // SAFETY: the pages from `first` to `end` are of a mapping that is alive, since one of its bytes was just read, and read-only, so that
        // nothing was written there that could go; other threads read its bytes or zeros, and the flag says so.
        let mapped = unsafe {
            libc::mmap(
                ptr::without_provenance_mut(first),
                end - first,
                libc::PROT_READ,
                libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        mapped != libc::MAP_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_short_reads_as_zeros_and_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let n_bytes = 64 << 10;
        let write = || std::fs::write(&path, vec![7; n_bytes]).unwrap();
        write();
        let (mapped, copied) = (TensorBytes::map(&path).unwrap(), TensorBytes::read(&path).unwrap());
        assert!(mapped.iter().all(|&byte| byte == 7) && mapped == copied);
        let second = TensorBytes::map(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(10_000).unwrap();
        assert_eq!((mapped[9_999], mapped.is_lost()), (7, false));
        assert_eq!((mapped[n_bytes - 1], mapped[9_999]), (0, 7));
        assert!(mapped.is_lost() && mapped.slice(0..1).unwrap().is_lost() && !second.is_lost());
        // What was mended once is mended further.
        assert_eq!((mapped[20_000], second[20_000]), (0, 0));
        assert!(second.is_lost() && !copied.is_lost());
        assert!(copied.iter().all(|&byte| byte == 7));
        // A place in the table that was used has forgotten.
        drop((mapped, second));
        write();
        assert!(!TensorBytes::map(&path).unwrap().is_lost());
    }
}
