//! A pool of threads for work that takes microseconds: workers spin for the next piece before they sleep.
//!
//! A decoded token is some 150 short parallel sections; waking a sleeping thread for each would cost more than the work. Tasks are
//! claimed one by one from a counter, so a thread that the system holds up delays nothing but the task it has begun.
//!
//! Where other programs want the same cores, spinning takes from this process's own share: a scheduler that shares time fairly lets a
//! thread that slept go first, and one that spun wait. So the owner sleeps when a section's last task takes long, and once such a wait shows
//! that a thread was held up, workers spin less until sections end promptly again. Nor do two threads stay on one core ([`Cores`]).

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::simd::cores::Cores;

/// Bits of the claim word that count tasks; it holds epoch, number of tasks and next task.
const TASK_BITS: u32 = 20;
const TASK_MASK: u64 = (1 << TASK_BITS) - 1;

/// Looks at the claim word before a worker sleeps, where the cores are this process's own: some 260 microseconds.
const SPINS: u32 = 20_000;

/// Likewise of the owner that waits for a section's last task: some 100 microseconds, which tasks of a calm section do not differ by.
const OWNER_SPINS: u32 = 8_000;

/// Likewise of both where other programs want the cores: some 26 microseconds.
const FEW_SPINS: u32 = 2_000;

/// An owner that waits longer waits for a thread that another program holds up: schedulers hand out cores by milliseconds.
const HELD_UP: Duration = Duration::from_millis(1);

/// Sections in a row without such a wait after which the cores count as this process's own again: some ten tokens.
const CALM_SECTIONS: u32 = 1_500;

type Task = dyn Fn(usize) + Sync;

struct Shared {
    /// epoch << 40 | tasks << 20 | next unclaimed task.
    claim: AtomicU64,
    /// The section's work. Written while no task is unclaimed or running, read by whoever has claimed one.
    task: UnsafeCell<Option<*const Task>>,
    done: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    /// How often a worker looks for work before it sleeps.
    spins: AtomicU32,
    /// Whether the owner sleeps until the section's last task is done.
    owner_sleeps: AtomicBool,
    owner: Mutex<()>,
    finished: Condvar,
    sleepers: Mutex<usize>,
    wake: Condvar,
    /// Where workers are.
    cores: Cores,
}

// SAFETY: `task` is the only field that is not Sync by itself. It is written by the one thread that owns the pool, only when every
// task of the last section is done, and read only by a thread that has claimed a task of the present section, which the
// release store of `claim` has made visible; the section ends only after that task is counted in `done`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer inside is used only while the closure it points to is borrowed by `run`.
unsafe impl Send for Shared {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Runs one unclaimed task, if there is one.
    fn run_one(&self) -> bool {
        let mut word = self.claim.load(Ordering::Acquire);
        loop {
            let (next, n) = (word & TASK_MASK, word >> TASK_BITS & TASK_MASK);
            if next >= n {
                return false;
            }
            match self.claim.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: a task of the present section was claimed, so `run` is still waiting for it: the pointer was
                    // written before `claim` was stored, and the closure it points to lives until `done` reaches `n`.
                    let task = unsafe { (*self.task.get()).map(|task| &*task) };
                    if let Some(task) = task
                        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(next as usize)))
                    {
                        *lock(&self.panic) = Some(panic);
                    }
                    // Sequentially consistent, as the owner's store and load are: either it sees this task done, or this
                    // thread sees it asleep.
                    let done = self.done.fetch_add(1, Ordering::SeqCst) + 1;
                    if done as u64 == n && self.owner_sleeps.load(Ordering::SeqCst) {
                        drop(lock(&self.owner));
                        self.finished.notify_one();
                    }
                    return true;
                }
                Err(now) => word = now,
            }
        }
    }

    fn work(&self, worker: usize) {
        self.cores.begins(worker);
        let mut idle = 1;
        while !self.stop.load(Ordering::Acquire) {
            if self.run_one() {
                if idle > 0 {
                    self.cores.is_here(worker);
                }
                idle = 0;
            } else if idle < self.spins.load(Ordering::Relaxed) {
                idle += 1;
                spin_loop();
            } else {
                self.sleep();
                idle = 1;
            }
        }
    }

    fn has_work(&self) -> bool {
        let word = self.claim.load(Ordering::Acquire);
        word & TASK_MASK < word >> TASK_BITS & TASK_MASK
    }

    fn sleep(&self) {
        let mut sleepers = lock(&self.sleepers);
        *sleepers += 1;
        while !self.has_work() && !self.stop.load(Ordering::Acquire) {
            sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }

    fn wake(&self) {
        if *lock(&self.sleepers) > 0 {
            self.wake.notify_all();
        }
    }
}

/// Threads that share short parallel sections. One thread owns the pool and takes part in the work.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    epoch: Cell<u64>,
    /// Sections in a row whose last task was not held up.
    calm: Cell<u32>,
    /// Not Sync: a section cannot be started from within another.
    _one_owner: PhantomData<Cell<()>>,
}

impl Pool {
    /// A pool of `n_thread` threads, the calling one among them; at least one. Threads that the system refuses are done without.
    #[must_use]
    pub fn new(n_thread: usize) -> Pool {
        let shared = Arc::new(Shared {
            claim: AtomicU64::new(0),
            task: UnsafeCell::new(None),
            done: AtomicUsize::new(0),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            spins: AtomicU32::new(SPINS),
            owner_sleeps: AtomicBool::new(false),
            owner: Mutex::new(()),
            finished: Condvar::new(),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
            cores: Cores::new(n_thread.saturating_sub(1)),
        });
        let workers = (1..n_thread)
            .map_while(|n| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("cpu-{n}")).spawn(move || shared.work(n - 1)).ok()
            })
            .collect();
        Pool { shared, workers, epoch: Cell::new(0), calm: Cell::new(0), _one_owner: PhantomData }
    }

    /// Threads, the owner among them.
    #[must_use]
    pub fn n_thread(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` to `task(n - 1)`, each once, on all threads, and returns when all are done.
    ///
    /// # Panics
    /// If a task panicked, with its panic, after all others are done.
    pub fn run(&self, n: usize, task: &(dyn Fn(usize) + Sync)) {
        let most = TASK_MASK as usize;
        if n <= 1 || self.workers.is_empty() {
            (0..n).for_each(task);
            return;
        }
        if n > most {
            let per = n.div_ceil(most);
            return self.run(n.div_ceil(per), &|i| (i * per..((i + 1) * per).min(n)).for_each(task));
        }
        self.shared.done.store(0, Ordering::Relaxed);
        // SAFETY: the lifetime is erased only for this call: it returns when every task is done, and nobody calls the pointer
        // without having claimed one of them. Every task of the last section is done, so no one reads the cell now.
        unsafe {
            let task = std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Task>(task);
            *self.shared.task.get() = Some(task);
        }
        self.epoch.set(self.epoch.get().wrapping_add(1));
        let word = self.epoch.get() << (2 * TASK_BITS) | (n as u64) << TASK_BITS;
        self.shared.claim.store(word, Ordering::Release);
        self.shared.wake();
        self.shared.cores.part();
        while self.shared.run_one() {}
        self.wait(n);
        if let Some(panic) = lock(&self.shared.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Until all `n` tasks of the section are done.
    fn wait(&self, n: usize) {
        let shared = &self.shared;
        for _ in 0..shared.spins.load(Ordering::Relaxed).min(OWNER_SPINS) {
            if shared.done.load(Ordering::Acquire) >= n {
                return self.count_calm();
            }
            spin_loop();
        }
        let began = Instant::now();
        let mut guard = lock(&shared.owner);
        shared.owner_sleeps.store(true, Ordering::SeqCst);
        while shared.done.load(Ordering::SeqCst) < n {
            guard = shared.finished.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        shared.owner_sleeps.store(false, Ordering::SeqCst);
        drop(guard);
        if began.elapsed() < HELD_UP {
            return self.count_calm();
        }
        self.calm.set(0);
        shared.spins.store(FEW_SPINS, Ordering::Relaxed);
    }

    fn count_calm(&self) {
        self.calm.set(self.calm.get().saturating_add(1));
        if self.calm.get() == CALM_SECTIONS {
            self.shared.spins.store(SPINS, Ordering::Relaxed);
        }
    }

    /// Cuts `data` into pieces of `len` (the last may be shorter) and calls `task(index, piece)` for each on all threads.
    pub fn chunks<T: Send>(&self, data: &mut [T], len: usize, task: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let (base, total) = (Exclusive(data.as_mut_ptr()), data.len());
        self.run(total.div_ceil(len.max(1)), &|index| {
            let start = index * len.max(1);
            let n = len.max(1).min(total - start);
            // SAFETY: pieces of different indexes do not overlap, each index is called once, all lie within `data`, which
            // stays borrowed mutably until `run` returns.
            task(index, unsafe { std::slice::from_raw_parts_mut(base.get().add(start), n) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        drop(lock(&self.shared.sleepers));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics, so there is nothing to learn from its result.
            let _ = worker.join();
        }
    }
}

/// A pointer that tasks share because each touches its own part.
struct Exclusive<T>(*mut T);

impl<T> Exclusive<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: used by `Pool::chunks` alone, where each task takes a part that no other task takes; T is Send.
unsafe impl<T: Send> Sync for Exclusive<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_in_many_sections() {
        let pool = Pool::new(4);
        for n in [0, 1, 2, 3, 100, 1000] {
            for _ in 0..200 {
                let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn chunks_cover_the_slice_and_sleepers_wake() {
        let pool = Pool::new(3);
        let mut data = vec![0usize; 1001];
        pool.chunks(&mut data, 10, &|i, piece| piece.fill(i));
        std::thread::sleep(std::time::Duration::from_millis(50));
        pool.chunks(&mut data, 10, &|i, piece| piece.iter_mut().for_each(|v| *v += i));
        assert!(data.iter().enumerate().all(|(at, &v)| v == 2 * (at / 10)));
    }

    #[test]
    fn a_thread_that_is_held_up_makes_waiting_cheap_until_sections_end_promptly() {
        let pool = Pool::new(2);
        let owner = std::thread::current().id();
        let spins = || pool.shared.spins.load(Ordering::Relaxed);
        let (entered, is_late) = (AtomicUsize::new(0), AtomicBool::new(false));
        // Both threads have a task at the same time, so the worker has one; it takes its time over it.
        pool.run(2, &|_| {
            entered.fetch_add(1, Ordering::SeqCst);
            while entered.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            if std::thread::current().id() != owner {
                std::thread::sleep(Duration::from_millis(20));
                is_late.store(true, Ordering::SeqCst);
            }
        });
        assert!(is_late.into_inner(), "the section ended before its last task");
        assert_eq!(spins(), FEW_SPINS);
        // Other programs may hold threads up here too: until enough sections in a row were prompt.
        let is_calm = (0..1_000_000).any(|_| {
            pool.run(2, &|_| ());
            spins() == SPINS
        });
        assert!(is_calm);
    }

    #[test]
    fn a_panic_reaches_the_owner_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert_ne!(i, 5))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }
}
