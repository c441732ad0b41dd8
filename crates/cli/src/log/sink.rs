//! Who writes the log? A thread of its own, so that a stderr that is full, closed or unread holds up nobody and fails nothing.
//!
//! Lines wait in a bounded queue; what does not fit, or cannot be written, is lost and counted. The first line that can be written again
//! is followed by one that says how many were lost.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of lines that wait.
const MAX_BYTES: usize = 1 << 20;
/// What a line costs beside its bytes.
const LINE_OVERHEAD: usize = 64;

/// The end of the queue that takes lines; clones are the same. Writing to it never waits and never fails.
#[derive(Clone, Debug)]
pub(crate) struct Sink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    n_lost: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    n_bytes: usize,
    /// Whether the thread has a line that is not written yet.
    is_writing: bool,
    /// Whether there is no thread: nothing is queued then.
    is_closed: bool,
}

impl Sink {
    /// Starts the thread that writes to `out`. `notice` is called on it, with how many lines were lost since the last call, once a line
    /// could be written again.
    pub(crate) fn spawn(out: impl Write + Send + 'static, notice: fn(u64)) -> Sink {
        let shared =
            Shared { queue: Mutex::default(), changed: Condvar::new(), n_lost: Arc::new(AtomicU64::new(0)) };
        let sink = Sink(Arc::new(shared));
        let of_thread = sink.clone();
        let spawned = thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.run(out, notice));
        if spawned.is_err() {
            sink.lock().is_closed = true;
        }
        sink
    }

    /// How many lines were lost since the start; the number goes on changing.
    pub(crate) fn n_lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.n_lost)
    }

    /// Waits until all is written that was queued before, but no longer than this.
    pub(crate) fn flush(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let mut queue = self.lock();
        while queue.is_writing || !queue.lines.is_empty() {
            let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
            else {
                return;
            };
            let waited = self.0.changed.wait_timeout(queue, rest);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes a whole line.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        let n_bytes = line.len() + LINE_OVERHEAD;
        if queue.is_closed || queue.n_bytes + n_bytes > MAX_BYTES {
            self.0.n_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.n_bytes += n_bytes;
        queue.lines.push_back(line.to_owned());
        drop(queue);
        self.0.changed.notify_all();
    }

    fn run(&self, mut out: impl Write, notice: fn(u64)) {
        let (mut n_said, mut is_torn) = (0, false);
        loop {
            let line = self.next();
            let written = write_line(&mut out, &line, &mut is_torn);
            let n_lost = self.0.n_lost.load(Ordering::Relaxed);
            if written.is_err() {
                self.0.n_lost.fetch_add(1, Ordering::Relaxed);
            } else if n_lost > n_said {
                notice(n_lost - n_said);
                n_said = n_lost;
            }
            self.lock().is_writing = false;
            self.0.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.lock();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.n_bytes -= line.len() + LINE_OVERHEAD;
                queue.is_writing = true;
                return line;
            }
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The queue is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line; one that was broken off before is ended first, so that this one stands alone.
fn write_line(out: &mut impl Write, line: &[u8], is_torn: &mut bool) -> io::Result<()> {
    if *is_torn {
        out.write_all(b"\n")?;
        *is_torn = false;
    }
    let mut rest = line;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(n) if n > 0 => {
                rest = rest.get(n..).unwrap_or_default();
                *is_torn = !rest.is_empty();
            }
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Takes at most `room` bytes, and keeps what it took.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn set_room(&self, room: usize) {
            self.0.lock().unwrap().0 = room;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.0);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= n;
            disk.1.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said_once_it_can() {
        static SAID: AtomicU64 = AtomicU64::new(0);
        let disk = Disk::default();
        disk.set_room(6);
        let sink = Sink::spawn(disk.clone(), |n| {
            SAID.fetch_add(n, Ordering::Relaxed);
        });
        for line in ["one\n", "two\n", "three\n"] {
            sink.push(line.as_bytes());
        }
        sink.flush(SOON);
        let n_lost = || sink.n_lost().load(Ordering::Relaxed);
        assert_eq!((disk.text().as_str(), n_lost()), ("one\ntw", 2));
        disk.set_room(100);
        sink.push(b"four\n");
        sink.flush(SOON);
        assert_eq!((disk.text().as_str(), n_lost()), ("one\ntw\nfour\n", 2));
        assert_eq!(SAID.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::spawn(writer, |_| {});
        let began = Instant::now();
        let line = [b'x'; 1000];
        (0..5000).for_each(|_| sink.push(&line));
        sink.flush(Duration::from_millis(10));
        assert!(began.elapsed() < SOON);
        let n_lost = sink.n_lost().load(Ordering::Relaxed);
        // What the pipe and the queue hold is not lost.
        assert!((3000..5000).contains(&n_lost), "{n_lost}");
        drop(reader);
        sink.flush(SOON);
        let queue = sink.lock();
        assert_eq!((queue.lines.len(), queue.n_bytes), (0, 0));
    }
}
