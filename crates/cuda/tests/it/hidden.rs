//! Hidden rows of every golden model: those of the exact CPU executor, and the same bits in whatever company and cut.

use device::batch::{Output, Want};
use device::hidden::HiddenRows;
use testkit::steps::{hidden, prompt, run};
use testkit::{golden, nmse};

use crate::golden::bound;
use crate::gpu::gpu;
use crate::models::executor;

#[test]
fn hidden_rows_are_close_to_the_exact_ones_and_have_the_same_bits_cut_and_together() {
    let Some(_gpu) = gpu() else { return };
    for model in golden() {
        let tokens = &model.cases[0].0;
        let gguf = gguf::Gguf::open(&model.path).unwrap();
        let loaded = std::sync::Arc::new(model::Model::load(&gguf).unwrap());
        let options = cpu::Options { exact: true, n_ctx: tokens.len(), n_slot: 1, ..cpu::Options::default() };
        let mut exact = cpu::CpuExecutor::new(loaded, &options).unwrap();
        let expected = hidden(&mut exact, tokens, (HiddenRows::All, tokens.len()));
        let mut alone = executor(&model.path, tokens.len(), 1);
        let whole = hidden(&mut alone, tokens, (HiddenRows::All, tokens.len()));
        let error = nmse(&whole, &expected);
        println!("{:24} hidden {error:.2e}", model.name);
        assert!(error <= bound(&model), "{}: {error:e}", model.name);

        let cut = |size| hidden(&mut executor(&model.path, tokens.len(), 1), tokens, (HiddenRows::All, size));
        assert!(cut(7) == whole && cut(1) == whole, "{} cut", model.name);
        let n_embd = whole.len() / tokens.len();
        let other = &model.cases[1].0[..tokens.len().min(33)];
        let mut shared = executor(&model.path, tokens.len(), 3);
        let spans = vec![
            prompt(&shared, 2, 0, other, Want::Logits),
            prompt(&shared, 0, 0, tokens, Want::Hidden(HiddenRows::All)),
            prompt(&shared, 1, 0, tokens, Want::Hidden(HiddenRows::Last)),
        ];
        let found = run(&mut shared, spans);
        assert!(found[1] == Output::Hidden(whole.clone()), "{} together", model.name);
        let last = whole[whole.len() - n_embd..].to_vec();
        assert!(found[2] == Output::Hidden(last), "{} beside itself", model.name);
    }
}
