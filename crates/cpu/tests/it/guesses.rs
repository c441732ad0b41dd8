//! Guessed tokens change no bit, whatever the kernels.

use cpu::Options;
use device::Executor;
use testkit::golden;
use testkit::guesses::{N_CTX, N_SEQUENCE, change_no_bit};

use crate::invariance::kernels;
use crate::support::executor_with;

#[test]
fn guesses_right_or_wrong_change_no_bit() {
    let mut n_checked = 0;
    for model in golden() {
        for (exact, kv_type) in kernels(&model) {
            let options = Options {
                threads: 2,
                exact,
                kv_type,
                n_ctx: N_CTX,
                n_slot: N_SEQUENCE,
                ..Options::default()
            };
            let mut make = || -> Box<dyn Executor> { Box::new(executor_with(&model.path, &options)) };
            let limits = make().limits();
            if limits.n_guess == 0 {
                assert!(limits.n_snapshot.is_some(), "{}", model.name);
                continue;
            }
            n_checked += 1;
            change_no_bit(&format!("{} exact {exact} {kv_type}", model.name), &mut make);
        }
    }
    assert!(n_checked > 10, "{n_checked} models take guesses");
}
