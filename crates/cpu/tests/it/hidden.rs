//! Hidden rows: what the output matrix is multiplied with, and the same bits in whatever company and cut.

use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::batch::{Output, Want};
use device::hidden::HiddenRows;
use device::{Batch, Executor};
use model::Model;
use testkit::steps::hidden;
use testkit::{golden, nmse};

use crate::support::{executor, logits, prompt};

/// Logits `[n_row, n_vocab]` of hidden rows.
fn multiplied(model: &Model, hidden: &[f32]) -> Vec<f32> {
    let (arch, output) = (&model.architecture, &model.weights.output);
    let mut weights = vec![0.0; output.weight.n_rows * output.weight.n_cols];
    output.weight.format.dequantize(output.weight.bytes(), &mut weights).unwrap();
    let mut logits = Vec::new();
    for x in hidden.chunks_exact(arch.n_embd) {
        for (i, row) in weights.chunks_exact(arch.n_embd).enumerate() {
            let sum: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            let scale = f64::from(output.weight.scale.unwrap_or(1.0));
            let sum = (scale * sum + output.bias.as_ref().map_or(0.0, |bias| f64::from(bias[i])))
                * f64::from(arch.scales.logits);
            let capped = arch.logit_cap.map_or(sum, |cap| f64::from(cap) * (sum / f64::from(cap)).tanh());
            logits.push(capped as f32);
        }
    }
    logits
}

#[test]
fn the_output_matrix_makes_logits_of_hidden_rows() {
    for model in golden() {
        let tokens = &model.cases[0].0[..24];
        let file = gguf::Gguf::open(&model.path).unwrap();
        let loaded = Model::load(&file).unwrap();
        let mut executor = executor(&model.path, true, tokens.len(), 1);
        let rows = hidden(&mut executor, tokens, (HiddenRows::All, tokens.len()));
        let error = nmse(&multiplied(&loaded, &rows), &logits(&model.path, true, tokens));
        assert!(error < 1e-9, "{}: {error:e}", model.name);
    }
}

#[test]
fn hidden_rows_have_the_same_bits_together_alone_and_cut() {
    for model in golden() {
        let tokens = &model.cases[0].0;
        for exact in [true, false] {
            let mut alone = executor(&model.path, exact, tokens.len(), 1);
            let whole = hidden(&mut alone, tokens, (HiddenRows::All, tokens.len()));
            let n_embd = alone.limits().n_embd;
            let mut cut = |size| hidden(&mut alone, tokens, (HiddenRows::All, size));
            assert!(cut(7) == whole && cut(1) == whole, "{} cut, exact {exact}", model.name);
            let of = |rows| {
                hidden(&mut executor(&model.path, exact, tokens.len(), 1), tokens, (rows, tokens.len()))
            };
            assert_eq!(of(HiddenRows::First), whole[..n_embd], "{}", model.name);
            assert_eq!(of(HiddenRows::Last), whole[whole.len() - n_embd..], "{}", model.name);

            let gguf = gguf::Gguf::open(&model.path).unwrap();
            let options = Options { threads: 2, exact, n_ctx: tokens.len(), n_slot: 3, ..Options::default() };
            let mut shared = CpuExecutor::new(Arc::new(Model::load(&gguf).unwrap()), &options).unwrap();
            let other = &model.cases[1].0[..tokens.len().min(33)];
            let spans = vec![
                prompt(&shared, 2, 0, other, Want::Logits),
                prompt(&shared, 0, 0, tokens, Want::Hidden(HiddenRows::All)),
                prompt(&shared, 1, 0, other, Want::Hidden(HiddenRows::Last)),
            ];
            let ticket = shared.submit(&Batch { spans }).unwrap();
            let found = shared.collect(ticket).unwrap();
            let slots: Vec<u32> = found.iter().map(|picked| picked.slot).collect();
            assert_eq!(slots, [2, 0, 1]);
            assert!(matches!(&found[0].output, Output::Logits(_)));
            assert!(found[1].output == Output::Hidden(whole), "{} together, exact {exact}", model.name);
            let mut alone = executor(&model.path, exact, other.len(), 1);
            let expected = hidden(&mut alone, other, (HiddenRows::Last, other.len()));
            assert!(found[2].output == Output::Hidden(expected), "{} beside it", model.name);
        }
    }
}
