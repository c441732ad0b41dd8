//! Do two threads of a pool share a core? Then one of them waits for the other at every section.
//!
//! A scheduler spreads threads over idle cores. One that runs a thread of lower priority is not idle to it: Linux may keep two threads that
//! compute on one core for tens of milliseconds, while the least important work of the machine has another for itself. So workers say where they
//! are, and one that is where another thread of the pool is gets moved to a core that has none. Threads are not bound to cores for longer
//! than that move takes: what else runs on the machine is for the scheduler to know.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// A core that is not known.
const UNKNOWN: u32 = u32::MAX;

/// Where the workers of a pool are.
#[derive(Debug)]
pub(crate) struct Cores {
    workers: Box<[Worker]>,
    /// Whether there are fewer cores than threads, or they may not be moved.
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Worker {
    /// Zero before it has begun.
    thread: AtomicI32,
    /// As it said last.
    core: AtomicU32,
}

impl Cores {
    pub(crate) fn new(n_worker: usize) -> Cores {
        let worker = |_| Worker { thread: AtomicI32::new(0), core: AtomicU32::new(UNKNOWN) };
        Cores { workers: (0..n_worker).map(worker).collect(), is_over: AtomicBool::new(false) }
    }

    /// The calling thread is this worker.
    pub(crate) fn begins(&self, worker: usize) {
        self.workers[worker].thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    }

    /// The calling thread, which is this worker, says where it is.
    pub(crate) fn is_here(&self, worker: usize) {
        let (now, core) = (sched_getcpu() as u32, &self.workers[worker].core);
        // A store that changes nothing would take the line from the owner's cache.
        if core.load(Ordering::Relaxed) != now {
            core.store(now, Ordering::Relaxed);
        }
    }

    /// Moves a worker that is where another is, or the calling thread.
    pub(crate) fn part(&self) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let cores = self.workers.iter().map(|worker| worker.core.load(Ordering::Relaxed));
        let Some(at) = shared(sched_getcpu(), cores) else { return };
        let worker = &self.workers[at];
        worker.core.store(UNKNOWN, Ordering::Relaxed);
        if self.move_away(worker).is_none() {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// To a core that no other thread is on, where one is known. `None` where there can be none.
    fn move_away(&self, worker: &Worker) -> Option<()> {
        let thread = Pid::from_raw(worker.thread.load(Ordering::Relaxed))?;
        let allowed = sched_getaffinity(Some(thread)).ok()?;
        if (allowed.count() as usize) <= self.workers.len() {
            return None;
        }
        let mut free = allowed;
        let used = self.workers.iter().map(|worker| worker.core.load(Ordering::Relaxed) as usize);
        used.chain([sched_getcpu()]).filter(|&core| core < CpuSet::MAX_CPU).for_each(|core| free.unset(core));
        if free.count() > 0 {
            sched_setaffinity(Some(thread), &free).ok()?;
            sched_setaffinity(Some(thread), &allowed).ok()?;
        }
        Some(())
    }
}

/// The first worker that is where an earlier one is, or on this core.
fn shared(owner: usize, mut cores: impl Iterator<Item = u32>) -> Option<usize> {
    let mut seen = CpuSet::new();
    let mut is_taken = |core: usize| {
        // Cores past those that a set holds are left alone.
        let is_taken = core < CpuSet::MAX_CPU && seen.is_set(core);
        if core < CpuSet::MAX_CPU {
            seen.set(core);
        }
        is_taken
    };
    is_taken(owner);
    cores.position(|core| is_taken(core as usize))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_shares_a_core() {
        assert_eq!(shared(0, [].into_iter()), None);
        assert_eq!(shared(0, [1, 2, 3].into_iter()), None);
        assert_eq!(shared(2, [1, 2, 1].into_iter()), Some(1));
        assert_eq!(shared(0, [1, 2, 1].into_iter()), Some(2));
        assert_eq!(shared(0, [UNKNOWN, UNKNOWN, 5000, 5000].into_iter()), None);
    }

    #[test]
    fn a_worker_on_the_owners_core_is_moved_and_may_go_where_it_might_before() {
        let before = sched_getaffinity(None).unwrap();
        let (cores, is_moved) = (Cores::new(1), AtomicBool::new(false));
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                cores.begins(0);
                while !is_moved.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                (sched_getcpu(), sched_getaffinity(None).unwrap())
            });
            while cores.workers[0].thread.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            // Bound to one core, so that it stays the one that the worker is said to be on.
            let mut here = CpuSet::new();
            here.set(sched_getcpu());
            sched_setaffinity(None, &here).unwrap();
            cores.workers[0].core.store(sched_getcpu() as u32, Ordering::Relaxed);
            cores.part();
            is_moved.store(true, Ordering::Release);
            let (core, allowed) = worker.join().unwrap();
            assert!(before.is_set(core) && allowed == before);
            sched_setaffinity(None, &before).unwrap();
        });
        assert_eq!(cores.workers[0].core.load(Ordering::Relaxed), UNKNOWN);
        // Where there is one core there is nowhere to go.
        assert_eq!(cores.is_over.load(Ordering::Relaxed), before.count() < 2);
    }

    #[test]
    fn where_threads_outnumber_cores_they_are_left_alone() {
        let cores = Cores::new(CpuSet::MAX_CPU);
        cores.begins(0);
        cores.is_here(0);
        cores.part();
        // The worker is this thread, so it is always where the owner is.
        assert!(cores.is_over.load(Ordering::Relaxed));
    }
}
