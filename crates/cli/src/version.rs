//! Which build is this? What `--version` and reports of measurements say.
//!
//! Version, the commit that the build script found, the instruction set that the kernels use on this machine, and the GPU architectures
//! that CUDA kernels were built for.

use std::sync::LazyLock;

/// The commit of the sources, where the build knew it.
pub(crate) const COMMIT: Option<&str> = option_env!("WORKER_ORCD_COMMIT");

/// What `--version` prints after the name.
pub(crate) fn line() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| {
        let commit = COMMIT.map(|c| format!("commit {c}, ")).unwrap_or_default();
        let isa = cpu::simd::isa::Isa::detect();
        let cuda = match cuda::is_built() {
            true => format!("CUDA kernels {}", cuda::targets().join(" ")),
            false => "CUDA not built in".to_owned(),
        };
        format!("{} ({commit}CPU kernels {isa}, {cuda})", env!("CARGO_PKG_VERSION"))
    });
    &LINE
}
