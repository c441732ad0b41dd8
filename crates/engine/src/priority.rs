//! Which threads yield to those that compute answers and send them?

use rustix::process::{Pid, setpriority_process};

/// How much threads that work for answers to come yield where they cannot be told to take what is left alone (a nice value).
pub const MOST: i32 = 19;

/// Has a thread, or the calling one, yield by a nice value. Where the system does not allow it, the thread competes as an equal.
pub fn yields(thread: Option<Pid>, nice: i32) {
    let _refused = setpriority_process(thread, nice);
}

/// Has a thread, or the calling one, take what others leave of the cores (Linux: `SCHED_IDLE`): a fifth of the share of the highest nice
/// value. Besides, a core with no other work counts as idle, so that two threads that compute are not left on one while it has another.
/// Without privileges it cannot be taken back.
pub fn takes_what_is_left(thread: Option<Pid>) {
    yields(thread, MOST);
    let param = libc::sched_param { sched_priority: 0 };
    let id = thread.map_or(0, |thread| thread.as_raw_nonzero().get());
    // SAFETY: the structure outlives the call, which reads it and nothing else. A thread that has ended is refused.
    let _refused = unsafe { libc::sched_setscheduler(id, libc::SCHED_IDLE, &raw const param) };
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;
    use testkit::scheduling_policy;

    use super::*;

    #[test]
    fn a_thread_yields_and_takes_what_is_left() {
        let run = || {
            yields(None, 7);
            let before = (getpriority_process(None), scheduling_policy());
            takes_what_is_left(None);
            (before, (getpriority_process(None), scheduling_policy()))
        };
        let found = std::thread::spawn(run).join().unwrap();
        assert_eq!(found, ((Ok(7), 0), (Ok(MOST), 5)));
    }
}
