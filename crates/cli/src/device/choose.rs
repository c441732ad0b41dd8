//! Which device is it to be? The flags that name one, and what `auto` makes of them.
//!
//! `auto` is the first GPU where this build has kernels for it, and the CPU otherwise. What was chosen and why is the first line of the log.

use std::fmt;
use std::str::FromStr;

use cpu::simd::isa::Isa;
use hub::Room;

use super::gpu::{Gpu, NoGpu};
use crate::exit::Failure;
use crate::machine;

/// The flags that choose a device.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DeviceArgs {
    /// Device to run on: cpu, cuda:N, or auto (a GPU if there is one, otherwise the CPU)
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// The same as --device cuda:N
    #[arg(long, value_name = "N", conflicts_with = "device")]
    gpu_device: Option<u32>,
    /// Use float32 arithmetic throughout, on the CPU (slow; the reference for the other kernels)
    #[arg(long)]
    pub(crate) exact: bool,
}

/// A device as `--device` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// The best there is.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(u32),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let index = |text: &str| text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            other => index(other).map(Device::Cuda).ok_or_else(|| "expected auto, cpu or cuda:N".to_owned()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// The device of this process, there and open.
pub(crate) enum Chosen {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(Gpu),
}

impl Chosen {
    /// What is free on the device, where that is known.
    pub(crate) fn room(&self) -> Option<Room> {
        let (place, free) = match self {
            Chosen::Cpu => ("cpu".to_owned(), machine::memory_free()?),
            Chosen::Cuda(gpu) => (gpu.id(), gpu.device.memory().ok()?.free),
        };
        Some(Room { place, free })
    }
}

impl DeviceArgs {
    /// What is asked for, by either flag.
    ///
    /// # Errors
    /// A GPU with `--exact`.
    pub(crate) fn wanted(&self) -> Result<Device, Failure> {
        let wanted = self.gpu_device.map_or(self.device, Device::Cuda);
        match wanted {
            Device::Cuda(_) if self.exact => {
                let text = format!("--exact runs only on the CPU, not on {wanted}");
                Err(Failure::Usage(text))
            }
            _ => Ok(wanted),
        }
    }

    /// Whether any of the flags is given, in effect.
    pub(crate) fn says_something(&self) -> bool {
        self.device != Device::Auto || self.gpu_device.is_some() || self.exact
    }
}

/// Opens the device that the flags ask for and logs which it is.
pub(crate) fn choose(args: &DeviceArgs, threads: usize) -> Result<Chosen, Failure> {
    let cpu = format!("{} on {threads} threads", Isa::detect());
    let (gpu, line) = pick(args.wanted()?, args.exact, &cpu, Gpu::find)?;
    tracing::info!("{line}");
    Ok(gpu.map_or(Chosen::Cpu, Chosen::Cuda))
}

/// The GPU, or `None` for the CPU, and the line that says so. `find` looks for a GPU by its number.
fn pick<G: fmt::Display>(
    wanted: Device,
    exact: bool,
    cpu: &str,
    find: impl FnOnce(u32) -> Result<G, NoGpu>,
) -> Result<(Option<G>, String), Failure> {
    let by_auto = |reason: &str| Ok((None, format!("device cpu, chosen by auto: {reason}; {cpu}")));
    match wanted {
        Device::Cpu => Ok((None, format!("device cpu: {cpu}"))),
        Device::Cuda(ordinal) => {
            let gpu = find(ordinal)
                .map_err(|none| Failure::Device { device: wanted.to_string(), reason: none.reason })?;
            let line = format!("device {wanted}: {gpu}");
            Ok((Some(gpu), line))
        }
        Device::Auto if exact => by_auto("--exact runs only on the CPU"),
        Device::Auto => match find(0) {
            Ok(gpu) => {
                let line = format!("device cuda:0, chosen by auto: {gpu}");
                Ok((Some(gpu), line))
            }
            Err(none) => by_auto(&none.brief),
        },
    }
}

#[cfg(test)]
mod tests {
    use cuda::CudaError;
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn devices_are_named_exactly() {
        for (text, device) in [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda:3", Device::Cuda(3))] {
            assert_eq!((text.parse(), device.to_string()), (Ok(device), text.to_owned()));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    fn check(wanted: Device, exact: bool, found: Result<&str, CudaError>, expected: &Expect) {
        let picked = pick(wanted, exact, "AVX2 on 4 threads", |_| found.map_err(|e| NoGpu::because(&e)));
        let said = match picked {
            Ok((gpu, line)) => format!("{} | {line}", gpu.unwrap_or("cpu")),
            Err(refusal) => refusal.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn auto_takes_the_gpu_where_there_is_one_and_says_why_not() {
        let h200 = "H200";
        check(Device::Auto, false, Ok(h200), &expect!["H200 | device cuda:0, chosen by auto: H200"]);
        check(
            Device::Auto,
            true,
            Ok(h200),
            &expect!["cpu | device cpu, chosen by auto: --exact runs only on the CPU; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            false,
            Err(CudaError::NotBuilt),
            &expect!["cpu | device cpu, chosen by auto: built without CUDA kernels; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            false,
            Err(CudaError::NoDriver),
            &expect!["cpu | device cpu, chosen by auto: no NVIDIA driver; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            false,
            Err(CudaError::NoDevice { ordinal: 0, count: 0 }),
            &expect!["cpu | device cpu, chosen by auto: no device; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            false,
            Err(CudaError::OldDriver { expected: 13000, found: 12080 }),
            &expect![
                "cpu | device cpu, chosen by auto: the NVIDIA driver is too old: expected one for CUDA 13.0 or later, found 12.8; AVX2 on 4 threads"
            ],
        );
    }

    #[test]
    fn a_driver_without_a_device_is_no_device_by_whichever_call() {
        let hidden = CudaError::Driver {
            call: "cuInit",
            code: 100,
            name: "CUDA_ERROR_NO_DEVICE".to_owned(),
            message: "no CUDA-capable device is detected".to_owned(),
        };
        check(
            Device::Auto,
            false,
            Err(hidden.clone()),
            &expect!["cpu | device cpu, chosen by auto: no device; AVX2 on 4 threads"],
        );
        check(
            Device::Cuda(0),
            false,
            Err(hidden),
            &expect![
                "device cuda:0 is not available: cuInit failed: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected"
            ],
        );
    }

    #[test]
    fn a_device_that_was_asked_for_is_never_replaced() {
        check(Device::Cpu, false, Ok("H200"), &expect!["cpu | device cpu: AVX2 on 4 threads"]);
        check(Device::Cuda(1), false, Ok("H200"), &expect!["H200 | device cuda:1: H200"]);
        check(
            Device::Cuda(2),
            false,
            Err(CudaError::NoDevice { ordinal: 2, count: 1 }),
            &expect!["device cuda:2 is not available: no CUDA device 2: the driver has 1"],
        );
        check(
            Device::Cuda(0),
            false,
            Err(CudaError::NotBuilt),
            &expect!["device cuda:0 is not available: built without CUDA kernels"],
        );
    }
}
