//! Latent attention keeps one row a position, where others keep a key and a value.

use cpu::Options;
use device::Executor;
use gguf::Gguf;
use model::{KvType, Model};
use testkit::golden;

use crate::support::executor_with;

/// Values of a row: 32 that are rotated, 64 that keys and values are made of.
const ROW: u64 = 96;

#[test]
fn a_row_is_kept_once() {
    let golden = golden().into_iter().find(|golden| golden.name == "deepseek2-v3-yarn-q8_0");
    let path = golden.expect("a golden model").path;
    let model = Model::load(&Gguf::open(&path).expect("a golden model")).expect("a golden model");
    let n_position = 3 * 64;
    let n_value = n_position * ROW * model.architecture.n_layer as u64;
    for kv_type in KvType::ALL {
        for (exact, expected) in [(false, kv_type.bytes(n_value)), (true, 4 * n_value)] {
            let options = Options { exact, kv_type, n_ctx: 64, n_slot: 3, ..Options::default() };
            assert_eq!(options.plan(&model).kv_cache, expected, "{kv_type} exact={exact}");
            assert_eq!(executor_with(&path, &options).memory().kv_cache, expected);
        }
    }
}
