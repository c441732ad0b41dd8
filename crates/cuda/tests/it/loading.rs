//! Models come and go: what does not fit is refused, and nothing stays behind.

use cuda::{CudaError, CudaExecutor, LoadError, Options};
use device::Executor;
use model::Model;
use testkit::golden;
use testkit::steps::logits;

use crate::gpu::gpu;

fn model() -> (gguf::Gguf, Model, Vec<u32>) {
    let golden = golden().into_iter().find(|m| m.name == "llama-q4_k_m").expect("a golden model");
    let gguf = gguf::Gguf::open(&golden.path).expect("a golden model");
    let model = Model::load(&gguf).expect("a golden model");
    (gguf, model, golden.cases[0].0.clone())
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_left_allocated() {
    let Some(gpu) = gpu() else { return };
    let (_gguf, model, _) = model();
    let before = gpu.memory().unwrap();
    // Pages of the KV cache for a tenth more than there is memory.
    let small = Options { n_page: Some(1), ..Options::default() }.plan(&model).unwrap().kv_cache;
    let n_page = (before.total + before.total / 10) / small;
    let options = Options { n_page: Some(n_page as usize), ..Options::default() };
    let plan = options.plan(&model).unwrap();
    match CudaExecutor::new(&model, &options, &mut |_, _| {}) {
        Err(LoadError::Cuda(CudaError::InsufficientMemory { needed, free })) => {
            println!("refused: {needed} bytes needed, {free} bytes free");
            assert!(needed >= plan.total() && free <= before.free, "{needed} {free} {plan:?}");
        }
        Err(other) => panic!("expected a refusal, found {other}"),
        Ok(_) => panic!("expected a refusal of {} bytes", plan.total()),
    }
    assert_eq!(gpu.memory().unwrap().free, before.free);
}

#[test]
fn a_hundred_loads_leave_the_memory_as_it_was() {
    let Some(gpu) = gpu() else { return };
    let (_gguf, model, tokens) = model();
    let options = Options { n_ctx: 256, n_row: 256, ..Options::default() };
    let mut free = None;
    let mut first = None;
    // The driver keeps a little for itself after the first uses of a device.
    for round in 0..103 {
        let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
        let found = logits(&mut executor, &tokens);
        executor.residency().check().expect("all of it on the device");
        assert!(executor.memory().resident);
        drop(executor);
        assert!(first.get_or_insert_with(|| found.clone()) == &found, "round {round}");
        let now = gpu.memory().unwrap().free;
        if round >= 3 {
            assert_eq!(*free.get_or_insert(now), now, "round {round}");
        }
    }
    println!("100 loads and unloads: {} bytes free after each", free.unwrap_or_default());
}
