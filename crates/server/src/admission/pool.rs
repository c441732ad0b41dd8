//! Where is a request prepared? On a few threads of its own, so that no thread that answers others is ever held up.
//!
//! There are two lanes, for bodies that are small and for large ones, each with a queue for each client; clients take turns. The threads yield to those
//! that compute answers and to those that send them: a large body may take long, a stream that is under way may not. A request whose client is gone
//! or whose time is over is not prepared any more.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::process::setpriority_process;
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use worker::Idle;

use crate::error::ApiError;

/// The most threads for small bodies.
const MAX_SMALL: usize = 8;
/// The most threads for large bodies: what one body becomes while it is read may take a hundred times its bytes.
const MAX_LARGE: usize = 2;
/// How much the threads yield (nice values).
const NICE_SMALL: i32 = 10;
const NICE_LARGE: i32 = 19;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Pool {
    small: Arc<Lane>,
    large: Arc<Lane>,
}

/// Whose work it is, of which kind, and until when it is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) client: u64,
    pub(super) is_large: bool,
    pub(super) until: Option<Instant>,
}

struct Lane {
    nice: i32,
    /// The most threads.
    limit: usize,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: HashMap<u64, VecDeque<Job>>,
    /// Clients that have jobs, in the order of their turns.
    turns: VecDeque<u64>,
    n_thread: usize,
    n_free: usize,
    /// Threads whose jobs wait for what others do: each has a substitute.
    n_idle: usize,
    is_closed: bool,
}

impl Pool {
    /// At most half of the cores; threads start as they are needed.
    pub(crate) fn new() -> Pool {
        let n_core = thread::available_parallelism().map_or(1, usize::from);
        let lane =
            |nice, limit| Arc::new(Lane { nice, limit, queue: Mutex::default(), ready: Condvar::new() });
        Pool {
            small: lane(NICE_SMALL, (n_core / 2).clamp(1, MAX_SMALL)),
            large: lane(NICE_LARGE, (n_core / 4).clamp(1, MAX_LARGE)),
        }
    }

    fn lane(&self, is_large: bool) -> &Arc<Lane> {
        if is_large { &self.large } else { &self.small }
    }

    /// To be told when work on such a body waits for what others do.
    pub(super) fn idle(&self, is_large: bool) -> Arc<dyn Idle> {
        Arc::new(OnLane(Arc::clone(self.lane(is_large))))
    }

    /// Has this done when its client's turn comes. Dropping the future takes it back, unless it is being done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: Task,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (sender, result) = oneshot::channel();
        let job = Box::new(move || {
            if sender.is_closed() {
                return;
            }
            let is_late = task.until.is_some_and(|until| Instant::now() >= until);
            let done = if is_late {
                Err(ApiError::Deadline)
            } else {
                // A defect in one request's preparation is that request's alone.
                catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(ApiError::Internal))
            };
            let _gone = sender.send(done);
        });
        self.lane(task.is_large).push(task.client, job)?;
        let Some(until) = task.until else { return result.await.unwrap_or(Err(ApiError::Internal)) };
        match timeout_at(until.into(), result).await {
            Ok(done) => done.unwrap_or(Err(ApiError::Internal)),
            Err(_) => Err(ApiError::Deadline),
        }
    }
}

impl Lane {
    fn push(self: &Arc<Self>, client: u64, job: Job) -> Result<(), ApiError> {
        let mut queue = self.lock();
        if queue.n_free == 0 {
            self.grow(&mut queue)?;
        }
        let jobs = queue.jobs.entry(client).or_default();
        jobs.push_back(job);
        if jobs.len() == 1 {
            queue.turns.push_back(client);
        }
        drop(queue);
        self.ready.notify_one();
        Ok(())
    }

    /// One more thread, if there may be one.
    fn grow(self: &Arc<Self>, queue: &mut Queue) -> Result<(), ApiError> {
        if queue.n_thread - queue.n_idle >= self.limit {
            return Ok(());
        }
        let lane = Arc::clone(self);
        let started = thread::Builder::new().name("prepare".to_owned()).spawn(move || lane.work());
        match started {
            Ok(_) => queue.n_thread += 1,
            Err(error) if queue.n_thread == queue.n_idle => {
                tracing::error!(event = "error", %error, "no thread to prepare requests");
                return Err(ApiError::Internal);
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn work(&self) {
        // Where the system does not allow it, the threads compete as equals.
        let _refused = setpriority_process(None, self.nice);
        while let Some(job) = self.next() {
            job();
        }
    }

    /// The next job; `None` once the pool is gone.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            // A substitute that is not needed any more.
            if queue.n_thread - queue.n_idle > self.limit {
                queue.n_thread -= 1;
                return None;
            }
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue.n_free += 1;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.n_free -= 1;
        }
    }

    /// The queue is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The first job of the client whose turn it is.
    fn pop(&mut self) -> Option<Job> {
        let client = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&client)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        job
    }
}

/// A lane as the work on its threads knows it.
#[derive(Debug)]
struct OnLane(Arc<Lane>);

impl Idle for OnLane {
    fn idles(&self, does: bool) {
        let mut queue = self.0.lock();
        if !does {
            queue.n_idle -= 1;
            return;
        }
        queue.n_idle += 1;
        if queue.n_free == 0 && !queue.turns.is_empty() {
            // Without a thread more the jobs wait for this one.
            let _logged = self.0.grow(&mut queue);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for lane in [&self.small, &self.large] {
            let mut queue = lane.lock();
            queue.is_closed = true;
            queue.jobs.clear();
            queue.turns.clear();
            drop(queue);
            lane.ready.notify_all();
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::future::{LocalBoxFuture, join_all};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn of(client: u64) -> Task {
        Task { client, is_large: true, until: None }
    }

    #[test]
    fn clients_take_turns() {
        let pool = Pool::new();
        // As many threads as there may be are held until all jobs are queued.
        let n_thread = pool.large.limit;
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut jobs: Vec<LocalBoxFuture<'_, Result<(), ApiError>>> = Vec::new();
        for _ in 0..n_thread {
            let held = Arc::clone(&held);
            jobs.push(Box::pin(pool.run(of(9), move || {
                let _released = held.lock().unwrap().recv();
                Ok(())
            })));
        }
        for client in [1, 1, 1, 1, 2, 2] {
            let order = Arc::clone(&order);
            jobs.push(Box::pin(pool.run(of(client), move || {
                order.lock().unwrap().push(client);
                Ok(())
            })));
        }
        jobs.push(Box::pin(async {
            (0..n_thread).for_each(|_| release.send(()).unwrap());
            Ok(())
        }));
        assert!(block_on(join_all(jobs)).iter().all(Result::is_ok));
        let order = order.lock().unwrap();
        // With several threads the last of a client's jobs may be noted a step late.
        assert!(order[..4].iter().filter(|&&client| client == 2).count() >= 1 && order[5] == 1, "{order:?}");
    }

    #[test]
    fn a_panic_is_that_request_s_alone_and_what_is_late_or_unwanted_is_not_done() {
        let pool = Pool::new();
        let broken = block_on(pool.run(of(1), || -> Result<(), ApiError> { panic!("on purpose") }));
        assert_eq!(broken, Err(ApiError::Internal));
        assert_eq!(block_on(pool.run(of(1), || Ok(3))), Ok(3));
        let late = Task { until: Some(Instant::now()), ..of(1) };
        assert_eq!(block_on(pool.run(late, || Ok(3))), Err(ApiError::Deadline));
        let slow = Task { until: Some(Instant::now() + Duration::from_millis(30)), ..of(1) };
        let sleeping = || {
            thread::sleep(Duration::from_millis(200));
            Ok(3)
        };
        assert_eq!(block_on(pool.run(slow, sleeping)), Err(ApiError::Deadline));
        // Behind the sleeper, and taken back before its turn.
        let (sender, done) = mpsc::channel();
        let unwanted = async {
            let run = pool.run(of(1), move || {
                sender.send(()).unwrap();
                Ok(())
            });
            tokio::time::timeout(Duration::from_millis(1), run).await
        };
        if pool.large.limit == 1 {
            assert!(block_on(unwanted).is_err());
            assert_eq!(block_on(pool.run(of(1), || Ok(4))), Ok(4));
            assert!(done.try_recv().is_err());
        }
    }
}
