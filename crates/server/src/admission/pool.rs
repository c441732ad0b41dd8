//! Where is a request prepared? On a few threads of its own, so that no thread that answers others is ever held up.
//!
//! There are two lanes, for bodies that are small and for large ones, each with a queue for each client; clients take turns. The threads yield to those
//! that compute answers and to those that send them: a large body may take long, a stream that is under way may not. A request whose client is gone
//! or whose time is over is not prepared any more.
//!
//! A small body may take long too, by what a template makes of it. Where there are several clients, such a job (`course`) is left to a thread
//! that yields as those for large bodies do; another takes that one's place, and its client's next jobs wait until it is done.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::time::timeout_at;
use worker::priority;

use super::course::Course;
use crate::error::ApiError;

/// The most threads for small bodies.
const MAX_SMALL: usize = 8;
/// The most threads for large bodies: what one body becomes while it is read may take a hundred times its bytes.
const MAX_LARGE: usize = 2;
/// How much the threads for small bodies yield (a nice value); those for large ones take what is left.
const NICE_SMALL: i32 = 10;

/// What is done, and where it has come to.
type Job = (Box<dyn FnOnce() + Send>, Arc<Course>);

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
    /// Whether there are other clients, to whom it yields where it takes long.
    pub(super) has_others: bool,
    pub(super) until: Option<Instant>,
}

pub(super) struct Lane {
    is_large: bool,
    /// The most threads.
    limit: usize,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Default)]
pub(super) struct Queue {
    jobs: HashMap<u64, VecDeque<Job>>,
    /// Clients that have jobs, in the order of their turns.
    turns: VecDeque<u64>,
    n_thread: usize,
    n_free: usize,
    /// Threads whose jobs wait for what others do: each has a substitute.
    n_idle: usize,
    /// Threads whose jobs took long: they yield more from then on, and others are started in their place.
    n_slow: usize,
    /// Clients whose jobs are on such threads.
    slow: Vec<u64>,
    is_closed: bool,
}

impl Pool {
    /// At most half of the cores; threads start as they are needed.
    pub(crate) fn new() -> Pool {
        let n_core = thread::available_parallelism().map_or(1, usize::from);
        let lane = |is_large, limit| {
            Arc::new(Lane { is_large, limit, queue: Mutex::default(), ready: Condvar::new() })
        };
        Pool {
            small: lane(false, (n_core / 2).clamp(1, MAX_SMALL)),
            large: lane(true, (n_core / 4).clamp(1, MAX_LARGE)),
        }
    }

    fn lane(&self, is_large: bool) -> &Arc<Lane> {
        if is_large { &self.large } else { &self.small }
    }

    /// A job to be done, which is to be told when its work waits for what others do.
    pub(super) fn course(&self, task: Task) -> Arc<Course> {
        Arc::new(Course::new(Arc::clone(self.lane(task.is_large)), task.client))
    }

    /// Has this done when its client's turn comes. Dropping the future takes it back, unless it is being done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        (task, course): (Task, Arc<Course>),
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (sender, mut result) = oneshot::channel();
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
        self.lane(task.is_large).push(task.client, (job, Arc::clone(&course)))?;
        let result = async move {
            if task.has_others && !task.is_large {
                tokio::select! {
                    done = &mut result => return done,
                    () = course.slows_down() => {}
                }
            }
            result.await
        };
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
        if queue.n_regular() >= self.limit {
            return Ok(());
        }
        let lane = Arc::clone(self);
        let started = thread::Builder::new().name("prepare".to_owned()).spawn(move || lane.work());
        match started {
            Ok(_) => queue.n_thread += 1,
            Err(error) if queue.n_thread == queue.n_idle + queue.n_slow => {
                tracing::error!(event = "error", %error, "no thread to prepare requests");
                return Err(ApiError::Internal);
            }
            Err(_) => {}
        }
        Ok(())
    }

    fn work(&self) {
        match self.is_large {
            false => priority::yields(None, NICE_SMALL),
            true => priority::takes_what_is_left(None),
        }
        let mut is_slow = false;
        while let Some((work, course)) = self.next(is_slow) {
            course.begin(is_slow);
            work();
            is_slow |= course.end();
        }
    }

    /// The next job; `None` once the pool is gone, or the thread is not needed any more. One that has become slow goes on only where the jobs
    /// that wait have no other: it cannot start one that is not.
    fn next(&self, is_slow: bool) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if is_slow && (queue.n_regular() > 0 || queue.turn().is_none()) {
                queue.n_thread -= 1;
                queue.n_slow -= 1;
                self.ready.notify_one();
                return None;
            }
            // A substitute.
            if !is_slow && queue.n_regular() > self.limit {
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

    /// A client's job takes long: its thread counts no more, and if jobs wait for one there is another.
    pub(super) fn slowed_down(self: &Arc<Self>, client: u64) {
        let mut queue = self.lock();
        queue.n_slow += 1;
        queue.slow.push(client);
        if queue.n_free == 0 && queue.turn().is_some() {
            let _logged = self.grow(&mut queue);
        }
    }

    /// That job is done, and its client's next may be.
    pub(super) fn is_through(&self, client: u64) {
        let mut queue = self.lock();
        if let Some(at) = queue.slow.iter().position(|&slow| slow == client) {
            queue.slow.swap_remove(at);
        }
        self.ready.notify_one();
    }

    /// A job waits for what others do, or does so no more.
    pub(super) fn idles(self: &Arc<Self>, does: bool) {
        let mut queue = self.lock();
        if !does {
            queue.n_idle -= 1;
            return;
        }
        queue.n_idle += 1;
        if queue.n_free == 0 && !queue.turns.is_empty() {
            // Without a thread more the jobs wait for this one.
            let _logged = self.grow(&mut queue);
        }
    }

    /// The queue is whole after every operation, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Threads that work, and yield no more than they should.
    fn n_regular(&self) -> usize {
        self.n_thread - self.n_idle - self.n_slow
    }

    /// Where in the line the client stands whose turn it is.
    fn turn(&self) -> Option<usize> {
        self.turns.iter().position(|client| !self.slow.contains(client))
    }

    /// The first job of the client whose turn it is.
    fn pop(&mut self) -> Option<Job> {
        let client = self.turn().and_then(|at| self.turns.remove(at))?;
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
    use rustix::process::getpriority_process;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn of(client: u64) -> Task {
        Task { client, is_large: true, has_others: false, until: None }
    }

    async fn run<T: Send + 'static>(
        pool: &Pool,
        task: Task,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        pool.run((task, pool.course(task)), work).await
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
            jobs.push(Box::pin(run(&pool, of(9), move || {
                let _released = held.lock().unwrap().recv();
                Ok(())
            })));
        }
        for client in [1, 1, 1, 1, 2, 2] {
            let order = Arc::clone(&order);
            jobs.push(Box::pin(run(&pool, of(client), move || {
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
        let broken = block_on(run(&pool, of(1), || -> Result<(), ApiError> { panic!("on purpose") }));
        assert_eq!(broken, Err(ApiError::Internal));
        assert_eq!(block_on(run(&pool, of(1), || Ok(3))), Ok(3));
        let late = Task { until: Some(Instant::now()), ..of(1) };
        assert_eq!(block_on(run(&pool, late, || Ok(3))), Err(ApiError::Deadline));
        let slow = Task { until: Some(Instant::now() + Duration::from_millis(30)), ..of(1) };
        let sleeping = || {
            thread::sleep(Duration::from_millis(200));
            Ok(3)
        };
        assert_eq!(block_on(run(&pool, slow, sleeping)), Err(ApiError::Deadline));
        // Behind the sleeper, and taken back before its turn.
        let (sender, done) = mpsc::channel();
        let unwanted = async {
            let run = run(&pool, of(1), move || {
                sender.send(()).unwrap();
                Ok(())
            });
            tokio::time::timeout(Duration::from_millis(1), run).await
        };
        if pool.large.limit == 1 {
            assert!(block_on(unwanted).is_err());
            assert_eq!(block_on(run(&pool, of(1), || Ok(4))), Ok(4));
            assert!(done.try_recv().is_err());
        }
    }

    #[test]
    fn a_small_job_that_takes_long_yields_and_holds_up_its_own_client_alone() {
        let pool = Pool::new();
        let small = |client| Task { client, is_large: false, has_others: true, until: None };
        let nice = || getpriority_process(None).unwrap();
        const SCHED_IDLE: u32 = 5;
        let (release, held) = mpsc::channel::<()>();
        let long = run(&pool, small(1), move || {
            let before = nice();
            let _released = held.recv();
            Ok((before, nice(), testkit::scheduling_policy()))
        });
        let (sender, second) = mpsc::channel();
        let its_next = run(&pool, small(1), move || {
            sender.send(()).unwrap();
            Ok(())
        });
        let others = async {
            // Long enough for the first to count as one that takes long.
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if pool.small.lock().n_slow > 0 {
                    break;
                }
            }
            for _ in 0..3 * pool.small.limit {
                assert_eq!(run(&pool, small(2), move || Ok(nice())).await, Ok(NICE_SMALL));
            }
            assert!(second.try_recv().is_err() || pool.small.limit > 1);
            // Until it has no share of the cores any more.
            tokio::time::sleep(Duration::from_secs(1)).await;
            release.send(()).unwrap();
        };
        let (long, next, ()) = block_on(async { tokio::join!(long, its_next, others) });
        assert_eq!((long, next), (Ok((NICE_SMALL, priority::MOST, SCHED_IDLE)), Ok(())));
        // Its thread is not used for quick ones any more.
        assert_eq!(block_on(run(&pool, small(1), move || Ok(nice()))), Ok(NICE_SMALL));
        assert_eq!(pool.small.lock().slow, [0u64; 0]);
    }
}
