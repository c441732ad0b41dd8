//! What would the model take on a device, and is there as much? The fields of `inspect --plan --json`, in bytes.
//!
//! The same sums that loading makes, and the same decision, before anything is allocated or copied.

use std::fmt;

use model::Model;
use serde::Serialize;

use crate::device::{self, Chosen, Device, DeviceArgs, Draft, Shape};
use crate::memory::{Needed, Pages};
use crate::units::Bytes;
use crate::{cmd, machine};

/// A model on a device.
#[derive(Debug, Serialize)]
struct Plan {
    device: String,
    #[serde(flatten)]
    memory: Needed,
    /// What must be free: the total and the reserve.
    needed: u64,
    /// Unknown where the device is not there.
    free: Option<u64>,
    fits: Option<bool>,
}

impl Plan {
    fn new(device: String, memory: Needed, free: Option<u64>) -> Plan {
        Plan { device, memory, needed: memory.in_all(), free, fits: memory.fits(free) }
    }
}

/// Prints the plan; afterwards refuses what does not fit, and a GPU that is not there.
pub(super) fn run(
    (model, draft): (&Model, Option<&Draft>),
    shape: Shape,
    device: &DeviceArgs,
    json: bool,
) -> anyhow::Result<()> {
    let print = |plan: &Plan| if json { cmd::print_json(plan) } else { cmd::print(&plan.to_string()) };
    let with = |needed: Needed, draft: Option<Needed>| draft.map_or(needed, |draft| needed.beside(&draft));
    let on_cuda = |shape: Shape, ordinal| -> anyhow::Result<Needed> {
        let options = shape.cuda_options(model, ordinal)?;
        let needed = Needed::on_cuda(model, &options).map_err(|what| device::unsupported(&what))?;
        Ok(with(needed, draft.map(|draft| draft.needed_on_cuda(shape, model, ordinal)).transpose()?))
    };
    let wanted = device.wanted()?;
    let plan = match (device::choose(device, machine::default_threads()), wanted) {
        (Ok(Chosen::Cpu), _) => {
            let options = shape.cpu_options(model, 1, device.cpu_kernels());
            let of_draft = draft.map(|draft| draft.needed_on_cpu(shape, model, device.cpu_kernels()));
            let memory = with(Needed::on_cpu(options.plan(model), &options), of_draft);
            Plan::new("cpu".to_owned(), memory, machine::memory_free())
        }
        (Ok(Chosen::Cuda(gpu)), _) => {
            let free = gpu.device.memory().map_err(|error| gpu.failure(error))?.free;
            let memory = on_cuda(shape, gpu.ordinal)?;
            let memory = match memory.fits(Some(free)) {
                // As it would be loaded.
                Some(false) => on_cuda(Shape { few_rows: true, ..shape }, gpu.ordinal)?,
                _ => memory,
            };
            Plan::new(gpu.id(), memory, Some(free))
        }
        (Err(refusal), Device::Cuda(ordinal)) => {
            print(&Plan::new(wanted.to_string(), on_cuda(shape, ordinal)?, None))?;
            return Err(refusal.into());
        }
        (Err(refusal), _) => return Err(refusal.into()),
    };
    print(&plan)?;
    if let Some(notice) = plan.memory.cache_notice() {
        tracing::info!("{notice}");
    }
    if let Some(notice) = device::beyond_training(&model.architecture, plan.memory.n_ctx) {
        tracing::warn!("{notice}");
    }
    Ok(plan.memory.check(&plan.device, plan.free)?)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Needed { n_ctx, sequences, weights, kv_cache, pages, state, activations, reserve, .. } =
            self.memory;
        let line = |f: &mut fmt::Formatter<'_>, label: &str, n: u64| {
            writeln!(f, "{label:<14} {n:>15} bytes {:>10}", Bytes(n).to_string())
        };
        writeln!(f, "{:<14} {}", "device", self.device)?;
        let each = if sequences == 1 { "1 sequence".to_owned() } else { format!("{sequences} sequences") };
        writeln!(f, "{:<14} {each} of {n_ctx} tokens", "context")?;
        line(f, "weights", weights)?;
        line(f, "KV cache", kv_cache)?;
        let Pages { page_size, pages, window } = pages;
        writeln!(f, "{:<14} {pages:>15} of {page_size} positions", "  pages")?;
        if let Some(window) = window {
            let seen = format!("where tokens see {}", window.positions);
            writeln!(f, "{:<14} {:>15} of {page_size} positions, {seen}", "  windows", window.pages)?;
        }
        if state > 0 {
            line(f, "state", state)?;
            writeln!(f, "{:<14} {sequences:>15} and {} snapshots", "  states", self.memory.snapshots)?;
        }
        line(f, "activations", activations)?;
        if let Some(draft) = self.memory.draft {
            line(f, "draft model", draft)?;
        }
        if reserve > 0 {
            line(f, "kept free", reserve)?;
        }
        line(f, "needed", self.needed)?;
        match self.free {
            Some(free) => line(f, "free", free)?,
            None => writeln!(f, "{:<14} not known", "free")?,
        }
        let fits = match self.fits {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        writeln!(f, "{:<14} {fits}", "fits")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::memory::WindowPages;

    #[test]
    fn a_plan_reads_as_a_sum() {
        let memory = Needed {
            n_ctx: 8192,
            sequences: 4,
            weights: 5_000_000_000,
            kv_cache: 4 << 30,
            pages: Pages { page_size: 64, pages: 512, window: None },
            state: 0,
            snapshots: 2,
            activations: 700_000_000,
            draft: None,
            total: 5_700_000_000 + (4 << 30),
            reserve: 352 << 20,
        };
        let on_gpu = Plan::new("cuda:0".to_owned(), memory, Some(11_000_000_000));
        let window = Some(WindowPages { positions: 1024, pages: 304 });
        let pages = Pages { window, ..memory.pages };
        let memory = Needed { sequences: 1, state: 1 << 20, pages, reserve: 0, ..memory };
        let unknown = Plan::new("cuda:1".to_owned(), memory, None);
        expect![[r#"
            device         cuda:0
            context        4 sequences of 8192 tokens
            weights             5000000000 bytes    4.7 GiB
            KV cache            4294967296 bytes    4.0 GiB
              pages                    512 of 64 positions
            activations          700000000 bytes  667.6 MiB
            kept free            369098752 bytes  352.0 MiB
            needed             10364066048 bytes    9.7 GiB
            free               11000000000 bytes   10.2 GiB
            fits           yes

            device         cuda:1
            context        1 sequence of 8192 tokens
            weights             5000000000 bytes    4.7 GiB
            KV cache            4294967296 bytes    4.0 GiB
              pages                    512 of 64 positions
              windows                  304 of 64 positions, where tokens see 1024
            state                  1048576 bytes    1.0 MiB
              states                     1 and 2 snapshots
            activations          700000000 bytes  667.6 MiB
            needed              9994967296 bytes    9.3 GiB
            free           not known
            fits           not known
        "#]]
        .assert_eq(&format!("{on_gpu}\n{unknown}"));
    }
}
