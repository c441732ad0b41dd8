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
    /// As llama.cpp's: 0 for --device cpu; all, -1 or 99 and more for a GPU with all layers. Nothing is split between devices
    #[arg(long, alias = "gpu-layers", value_name = "N", value_parser = layers, allow_negative_numbers = true,
        conflicts_with_all = ["device", "gpu_device"])]
    n_gpu_layers: Option<Layers>,
    /// Use float32 arithmetic throughout, on the CPU (slow; the reference for the other kernels)
    #[arg(long)]
    pub(crate) exact: bool,
    /// CPU: kernels for this instruction set: scalar; on x86-64 avx2, avx-vnni, avx512, avx512-vnni, avx512-vbmi, amx; on
    /// arm64 neon, dotprod, i8mm; or auto (the best that this machine runs)
    #[arg(long, value_name = "SET", default_value = "auto", value_parser = features, conflicts_with = "exact")]
    cpu_features: Features,
}

/// The instruction set that `--cpu-features` names; `None` for the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Features(Option<Isa>);

/// How many of a model's layers are on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    None,
    All,
}

/// Reads a number of layers: none or all.
fn layers(text: &str) -> Result<Layers, String> {
    match text.parse::<i64>() {
        Ok(0) => Ok(Layers::None),
        Ok(-1 | 99..) => Ok(Layers::All),
        Err(_) if text == "all" => Ok(Layers::All),
        _ => Err(
            "expected 0 for the CPU, or all, -1 or 99 and more for a GPU: a model's layers are not split \
            between devices"
                .to_owned(),
        ),
    }
}

/// Reads an instruction set that this machine runs.
fn features(text: &str) -> Result<Features, String> {
    if text == "auto" {
        return Ok(Features(None));
    }
    let named = Isa::ALL.into_iter().find(|isa| isa.name() == text);
    if let Some(isa) = named.filter(|isa| isa.is_available()) {
        return Ok(Features(Some(isa)));
    }
    let lacks = named.map(|isa| format!("this machine lacks {isa}; ")).unwrap_or_default();
    let runs: Vec<&str> = Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(Isa::name).collect();
    Err(format!("{lacks}expected auto, or what this machine runs: {}", runs.join(", ")))
}

/// Which kernels the CPU computes with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuKernels {
    /// The exact ones.
    pub(crate) exact: bool,
    /// The instruction set of the fast ones; `None` for the best.
    pub(crate) isa: Option<Isa>,
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
    /// A GPU with `--exact` or `--cpu-features`.
    pub(crate) fn wanted(&self) -> Result<Device, Failure> {
        let wanted = match (self.gpu_device, self.n_gpu_layers) {
            (Some(n), _) => Device::Cuda(n),
            (None, Some(Layers::None)) => Device::Cpu,
            (None, Some(Layers::All)) => Device::Cuda(0),
            (None, None) => self.device,
        };
        match (wanted, self.of_cpu_alone()) {
            (Device::Cuda(_), Some(flag)) => {
                let text = format!("{flag} runs only on the CPU, not on {wanted}");
                Err(Failure::Usage(text))
            }
            _ => Ok(wanted),
        }
    }

    /// The kernels that the CPU is to compute with.
    pub(crate) fn cpu_kernels(&self) -> CpuKernels {
        CpuKernels { exact: self.exact, isa: self.cpu_features.0 }
    }

    /// The flag that asks for the CPU's own kernels.
    fn of_cpu_alone(&self) -> Option<&'static str> {
        if self.exact {
            return Some("--exact");
        }
        self.cpu_features.0.map(|_| "--cpu-features")
    }

    /// Whether any of the flags is given, in effect.
    pub(crate) fn says_something(&self) -> bool {
        let is_named =
            self.device != Device::Auto || self.gpu_device.is_some() || self.n_gpu_layers.is_some();
        is_named || self.of_cpu_alone().is_some()
    }
}

/// Opens the device that the flags ask for and logs which it is.
pub(crate) fn choose(args: &DeviceArgs, threads: usize) -> Result<Chosen, Failure> {
    let isa = args.cpu_features.0.unwrap_or_else(Isa::detect);
    let cpu = format!("{isa} on {threads} threads");
    let (gpu, line) = pick(args.wanted()?, args.of_cpu_alone(), &cpu, Gpu::find)?;
    tracing::info!("{line}");
    Ok(gpu.map_or(Chosen::Cpu, Chosen::Cuda))
}

/// The GPU, or `None` for the CPU, and the line that says so. `of_cpu` is a flag that only the CPU takes; `find` looks for a GPU by its
/// number.
fn pick<G: fmt::Display>(
    wanted: Device,
    of_cpu: Option<&str>,
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
        Device::Auto if let Some(flag) = of_cpu => by_auto(&format!("{flag} runs only on the CPU")),
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
    fn layers_are_all_on_one_device() {
        for (text, found) in [
            ("0", Layers::None),
            ("-1", Layers::All),
            ("99", Layers::All),
            ("999", Layers::All),
            ("all", Layers::All),
        ] {
            assert_eq!(layers(text), Ok(found));
        }
        for text in ["1", "33", "98", "-2", "auto", ""] {
            assert!(layers(text).unwrap_err().contains("not split between devices"), "{text}");
        }
    }

    #[test]
    fn devices_are_named_exactly() {
        for (text, device) in [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda:3", Device::Cuda(3))] {
            assert_eq!((text.parse(), device.to_string()), (Ok(device), text.to_owned()));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    fn check(wanted: Device, of_cpu: Option<&str>, found: Result<&str, CudaError>, expected: &Expect) {
        let picked = pick(wanted, of_cpu, "AVX2 on 4 threads", |_| found.map_err(|e| NoGpu::because(&e)));
        let said = match picked {
            Ok((gpu, line)) => format!("{} | {line}", gpu.unwrap_or("cpu")),
            Err(refusal) => refusal.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn auto_takes_the_gpu_where_there_is_one_and_says_why_not() {
        let h200 = "H200";
        check(Device::Auto, None, Ok(h200), &expect!["H200 | device cuda:0, chosen by auto: H200"]);
        check(
            Device::Auto,
            Some("--exact"),
            Ok(h200),
            &expect!["cpu | device cpu, chosen by auto: --exact runs only on the CPU; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            None,
            Err(CudaError::NotBuilt),
            &expect!["cpu | device cpu, chosen by auto: built without CUDA kernels; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            None,
            Err(CudaError::NoDriver),
            &expect!["cpu | device cpu, chosen by auto: no NVIDIA driver; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            None,
            Err(CudaError::NoDevice { ordinal: 0, count: 0 }),
            &expect!["cpu | device cpu, chosen by auto: no device; AVX2 on 4 threads"],
        );
        check(
            Device::Auto,
            None,
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
            None,
            Err(hidden.clone()),
            &expect!["cpu | device cpu, chosen by auto: no device; AVX2 on 4 threads"],
        );
        check(
            Device::Cuda(0),
            None,
            Err(hidden),
            &expect![
                "device cuda:0 is not available: cuInit failed: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected"
            ],
        );
    }

    #[test]
    fn a_device_that_was_asked_for_is_never_replaced() {
        check(Device::Cpu, None, Ok("H200"), &expect!["cpu | device cpu: AVX2 on 4 threads"]);
        check(Device::Cuda(1), None, Ok("H200"), &expect!["H200 | device cuda:1: H200"]);
        check(
            Device::Cuda(2),
            None,
            Err(CudaError::NoDevice { ordinal: 2, count: 1 }),
            &expect!["device cuda:2 is not available: no CUDA device 2: the driver has 1"],
        );
        check(
            Device::Cuda(0),
            None,
            Err(CudaError::NotBuilt),
            &expect!["device cuda:0 is not available: built without CUDA kernels"],
        );
    }

    #[test]
    fn features_are_those_that_this_machine_runs() {
        assert_eq!(features("auto"), Ok(Features(None)));
        assert_eq!(features("scalar"), Ok(Features(Some(Isa::Scalar))));
        for isa in Isa::ALL {
            match features(isa.name()) {
                Ok(found) => assert!(isa.is_available() && found == Features(Some(isa)), "{isa}"),
                Err(said) => {
                    let lacks =
                        format!("this machine lacks {isa}; expected auto, or what this machine runs: scalar");
                    assert!(!isa.is_available() && said.starts_with(&lacks), "{said}");
                }
            }
        }
        for text in ["", "AVX2", "sse2"] {
            let said = features(text).unwrap_err();
            assert!(said.starts_with("expected auto, or what this machine runs: scalar"), "{text}: {said}");
        }
    }
}
