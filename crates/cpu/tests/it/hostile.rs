//! Damaged models: whatever still loads is run, and no step panics.

use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::batch::Want;
use device::{Batch, Executor};
use gguf::Gguf;
use model::Model;
use testkit::golden;

use crate::support::prompt;

/// Damaged copies of each golden model.
const N_DAMAGED: u64 = 150;

/// A well-mixed number from a counter (SplitMix64).
fn mixed(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn damaged_models_are_refused_or_run() {
    let mut n_run = 0;
    for model in golden().iter().filter(|m| !m.name.starts_with("llama-") || m.name == "llama-q2_k") {
        let bytes = std::fs::read(&model.path).expect("a golden model");
        let file = Gguf::from_bytes(bytes.clone()).expect("a golden model");
        let header = file.tensors().iter().map(|t| t.offset).min().expect("a tensor");
        for n in 0..N_DAMAGED {
            let mut damaged = bytes.clone();
            // Half of the damage is to the header, half to the weights, whose scales may become NaN or infinite.
            for i in 0..4 {
                let random = mixed(n * 4 + i);
                let at = if n % 2 == 0 { random % header } else { random % bytes.len() as u64 };
                damaged[at as usize] = (random >> 40) as u8;
            }
            let Ok(file) = Gguf::from_bytes(damaged) else { continue };
            let Ok(model) = Model::load(&file) else { continue };
            let options = Options { threads: 1, n_ctx: 40, exact: n % 4 == 1, ..Options::default() };
            let plan = options.plan(&model);
            if plan.kv_cache.max(plan.state) > 1 << 26 {
                continue;
            }
            let Ok(mut executor) = CpuExecutor::new(Arc::new(model), &options) else { continue };
            let n_vocab = executor.limits().n_vocab as u32;
            let tokens: Vec<u32> = (0..35).map(|i| i * 7 % n_vocab).collect();
            let n = executor.limits().n_ctx.min(tokens.len());
            let span = prompt(&executor, 0, 0, &tokens[..n], Want::Logits);
            let ticket = executor.submit(&Batch { spans: vec![span] }).expect("a step");
            assert_eq!(executor.collect(ticket).expect("its results").len(), 1);
            n_run += 1;
        }
    }
    // Most damage to weights leaves a model that runs; were it none, this test would test nothing.
    assert!(n_run > 200, "{n_run} ran");
}
