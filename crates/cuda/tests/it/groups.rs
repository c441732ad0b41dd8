//! Attention of key heads that many query heads share, against the exact executor: no golden model has more than seven.

use cuda::{CudaExecutor, Options};
use model::Model;
use model::architecture::Mixer;
use model::weights::MixerWeights;
use quant::Format;
use testkit::golden;

use crate::conformance::{agrees, exact, load};
use crate::gpu::gpu;
use crate::models::random;

/// Gives each key head so many query heads, all of them different, and sinks.
fn group(model: &mut Model, n: usize) {
    let arch = &mut model.architecture;
    let n_embd = arch.n_embd;
    arch.attention.sinks = true;
    for (i, (mixer, layer)) in arch.mixers.iter_mut().zip(&mut model.weights.layers).enumerate() {
        let (Mixer::Attention(heads), MixerWeights::Attention(weights)) = (mixer, &mut layer.mixer) else {
            panic!("attention");
        };
        heads.n_head = n * heads.n_kv_head;
        // Attention that float32 multiplies has a kernel of its own for prompts.
        let format = [Format::F16, Format::F32][i % 2];
        weights.q.weight = random(&weights.q.weight.name, Format::F16, [heads.n_q(), n_embd]);
        weights.output.weight = random(&weights.output.weight.name, format, [n_embd, heads.n_q()]);
        weights.sinks = Some((0..heads.n_head).map(|head| (head % 7) as f32 * 0.5 - 1.0).collect());
    }
}

#[test]
fn key_heads_of_many_query_heads_agree_with_the_exact_executor() {
    let Some(_gpu) = gpu() else { return };
    // Heads of 64 values; of 48, whose attention is computed row by row. From 257 and from 513 tokens on, a generated row's are cut.
    let cases = [
        ("llama-f16", [(9, 700), (17, 700), (71, 300), (256, 64)].as_slice()),
        ("llama-linear-q4_0", &[(17, 700), (256, 64)]),
    ];
    for (name, sizes) in cases {
        let golden = golden().into_iter().find(|model| model.name == name).expect("a golden model");
        let types = golden.kv_types();
        for (&(n, n_token), kv_type) in
            sizes.iter().flat_map(|size| types.iter().map(move |&kind| (size, kind)))
        {
            let tokens: Vec<u32> = golden.cases[1].0.iter().cycle().take(n_token).copied().collect();
            let mut model = load(&golden.path);
            group(&mut model, n);
            let expected = exact(&model, &tokens, kv_type);
            let options = Options { n_ctx: n_token, n_row: 1024, kv_type, ..Options::default() };
            let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
            agrees(&mut executor, &tokens, (&expected, &format!("{name} {kv_type}, {n} heads")));
            println!("{name:24} {kv_type} {n} query heads a key head");
        }
    }
}
