//! Which kernels does this build have, and which GPUs run them?

use crate::error::CudaError;

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Whether this build has kernels: whether a CUDA compiler was found when it was made.
#[must_use]
pub fn is_built() -> bool {
    TARGETS.is_some()
}

/// The architectures that the kernels were compiled for, such as `sm_90a+ptx`; `check` where they were compiled for no GPU to run them.
#[must_use]
pub fn targets() -> &'static [&'static str] {
    TARGETS.unwrap_or_default()
}

/// Whether the kernels run on a GPU of this compute capability, given as major and minor.
///
/// Source: CUDA Programming Guide 13.0, "Application Compatibility": machine code runs on later GPUs of its own major version, PTX on all
/// later ones, and both on the very architecture alone where its name ends in `a` (on its major version with `f`).
#[must_use]
pub fn runs_on(capability: (u32, u32)) -> bool {
    targets().iter().any(|target| target_runs_on(target, capability))
}

fn target_runs_on(target: &str, capability: (u32, u32)) -> bool {
    let name = target.trim_start_matches("sm_");
    let (name, ptx) = name.strip_suffix("+ptx").map_or((name, false), |name| (name, true));
    let number: u32 = name.trim_end_matches(['a', 'f']).parse().unwrap_or(u32::MAX);
    let made_for = (number / 10, number % 10);
    if name.ends_with('a') {
        return made_for == capability;
    }
    let is_later = made_for <= capability;
    is_later && (made_for.0 == capability.0 || (ptx && !name.ends_with('f')))
}

/// The fat binary of the file `NAME.cu` in a folder of `kernels/`.
///
/// # Errors
/// [`CudaError::NotBuilt`] if this build has no kernels, [`CudaError::UnknownModule`] if it has none of this name.
pub fn module(name: &str) -> Result<&'static [u8], CudaError> {
    if !is_built() {
        return Err(CudaError::NotBuilt);
    }
    let found = MODULES.iter().find(|(module, _)| *module == name);
    found.map(|(_, fatbin)| *fatbin).ok_or_else(|| CudaError::UnknownModule { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::target_runs_on;

    #[test]
    fn code_runs_where_its_name_says() {
        for (target, runs_on, not_on) in [
            ("sm_80", vec![(8, 0), (8, 6), (8, 9)], vec![(7, 5), (9, 0), (12, 0)]),
            ("sm_86", vec![(8, 6), (8, 9)], vec![(8, 0), (9, 0)]),
            ("sm_80+ptx", vec![(8, 0), (9, 0), (10, 3), (12, 0)], vec![(7, 5)]),
            ("sm_90a+ptx", vec![(9, 0)], vec![(8, 9), (10, 0)]),
            ("check", vec![], vec![(8, 0), (9, 0), (12, 0)]),
            ("sm_100f+ptx", vec![(10, 0), (10, 3)], vec![(9, 0), (11, 0)]),
            ("", vec![], vec![(8, 0), (12, 0)]),
        ] {
            assert!(runs_on.iter().all(|&gpu| target_runs_on(target, gpu)), "{target}");
            assert!(!not_on.iter().any(|&gpu| target_runs_on(target, gpu)), "{target}");
        }
    }
}
