//! Where has a job come to? It waits, it runs, and if that lasts its thread yields from then on as those for large bodies do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;
use tokio::sync::Notify;
use tokio::time::sleep;
use worker::Idle;

use super::pool::{Lane, NICE_LARGE};

/// For how long a job may run on a thread for quick ones, waiting for others not counted much.
const QUICK: Duration = Duration::from_millis(50);

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
    Slow,
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
        let has_slowed = last == Stage::Slow;
        if has_slowed {
            self.lane.is_through(self.client);
        }
        has_slowed
    }

    /// Returns once it has run for too long and its thread was slowed down, or never.
    pub(super) async fn slows_down(&self) {
        self.begun.notified().await;
        loop {
            sleep(QUICK).await;
            let mut stage = self.lock();
            match *stage {
                Stage::Runs(thread) => {
                    // Where the system does not allow it, it competes as an equal.
                    let _refused = setpriority_process(Some(thread), NICE_LARGE);
                    *stage = Stage::Slow;
                    self.lane.slowed_down(self.client);
                    return;
                }
                Stage::Idles(_) | Stage::Waits => {}
                Stage::Slow | Stage::OnSlow | Stage::Done => return,
            }
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
