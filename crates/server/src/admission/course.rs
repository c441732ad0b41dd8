//! Where has a job come to? It waits, it runs, and if that lasts its thread yields more from then on, and in the end as those for large bodies do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::gettid;
use tokio::sync::Notify;
use tokio::time::sleep;
use worker::{Idle, priority};

use super::pool::Lane;

/// For how long a job may run on a thread for quick ones, waiting for others not counted much.
const QUICK: Duration = Duration::from_millis(50);

/// For how long it may then have a share of the cores, if a small one: where they are busy, taking what is left would make tenths of a second
/// into many.
const LONG: Duration = Duration::from_millis(200);

/// A job's course.
#[derive(Debug)]
pub(crate) struct Course {
    lane: Arc<Lane>,
    client: u64,
    stage: Mutex<Stage>,
    begun: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waits,
    Runs(Pid),
    /// On that thread, until what others do is done.
    Idles(Pid),
    /// On a thread that yields more because of it.
    Slow(Pid),
    /// On a thread that did so before.
    OnSlow,
    Done,
}

impl Course {
    pub(super) fn new(lane: Arc<Lane>, client: u64) -> Course {
        Course { lane, client, stage: Mutex::new(Stage::Waits), begun: Notify::new() }
    }

    /// It begins on this thread, which may have been slowed down by another.
    pub(super) fn begin(&self, is_slow: bool) {
        *self.lock() = if is_slow { Stage::OnSlow } else { Stage::Runs(gettid()) };
        self.begun.notify_one();
    }

    /// It has ended; whether it has slowed its thread down.
    pub(super) fn end(&self) -> bool {
        let last = std::mem::replace(&mut *self.lock(), Stage::Done);
        let has_slowed = matches!(last, Stage::Slow(_));
        if has_slowed {
            self.lane.is_through(self.client);
        }
        has_slowed
    }

    /// Returns once it has run for too long and its thread was slowed down as far as can be, or never.
    pub(super) async fn slows_down(&self) {
        self.begun.notified().await;
        loop {
            sleep(QUICK).await;
            let mut stage = self.lock();
            match *stage {
                Stage::Runs(thread) => {
                    priority::yields(Some(thread), priority::MOST);
                    *stage = Stage::Slow(thread);
                    self.lane.slowed_down(self.client);
                    break;
                }
                Stage::Idles(_) | Stage::Waits => {}
                Stage::Slow(_) | Stage::OnSlow | Stage::Done => return,
            }
        }
        sleep(LONG).await;
        if let Stage::Slow(thread) = *self.lock() {
            priority::takes_what_is_left(Some(thread));
        }
    }

    /// Whole after every operation.
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle for Course {
    fn idles(&self, does: bool) {
        let mut stage = self.lock();
        *stage = match (*stage, does) {
            (Stage::Runs(thread), true) => Stage::Idles(thread),
            (Stage::Idles(thread), false) => Stage::Runs(thread),
            // Nobody waits for a thread that is slow.
            _ => return,
        };
        self.lane.idles(does);
    }
}
