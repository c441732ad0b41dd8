//! Guessed tokens change no bit: several rows of a sequence in one step are its steps of one row.

use cuda::Options;
use device::Executor;
use model::KvType;
use testkit::guesses::{N_CTX, N_SEQUENCE, change_no_bit};

use crate::gpu::gpu;
use crate::invariance::kinds;
use crate::models::executor_with;

#[test]
fn guesses_right_or_wrong_change_no_bit() {
    let Some(_gpu) = gpu() else { return };
    let mut n_checked = 0;
    for (model, kv_type) in kinds() {
        let options = Options { n_ctx: N_CTX, n_slot: N_SEQUENCE, n_row: 256, kv_type, ..Options::default() };
        let mut make = || -> Box<dyn Executor> { Box::new(executor_with(&model.path, &options)) };
        let limits = make().limits();
        if limits.n_guess == 0 {
            assert!(limits.n_snapshot.is_some() || kv_type == KvType::Q8_0, "{} {kv_type}", model.name);
            continue;
        }
        n_checked += 1;
        change_no_bit(&format!("{} {kv_type}", model.name), &mut make);
        println!("{:24} {kv_type} with guesses as without", model.name);
    }
    assert!(n_checked > 10, "{n_checked} models take guesses");
}
