//! Which GPU is there, and what does its refusal mean for whoever started the program?

use std::fmt;
use std::sync::Arc;

use cuda::driver::{Device, driver_version};
use cuda::{CudaError, LoadError, Unsupported};

use crate::exit::Failure;
use crate::memory::Needed;

/// What the driver answers where it finds no device. Source: CUDA Driver API 13.0, `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: u32 = 100;

/// A GPU that the kernels run on, open.
pub(crate) struct Gpu {
    pub(crate) ordinal: u32,
    /// Keeps its context, which loading then need not make again.
    pub(crate) device: Arc<Device>,
    /// In bytes.
    memory: u64,
    /// Of CUDA, times 1000.
    driver: u32,
}

/// Why there is no GPU.
pub(crate) struct NoGpu {
    /// In a few words.
    pub(crate) brief: String,
    /// For whoever asked for it.
    pub(crate) reason: String,
}

impl NoGpu {
    pub(crate) fn because(error: &CudaError) -> NoGpu {
        let reason = match error {
            CudaError::NotBuilt => "built without CUDA kernels".to_owned(),
            error => error.to_string(),
        };
        let brief = match error {
            CudaError::NoDriver => "no NVIDIA driver".to_owned(),
            CudaError::NoDevice { count: 0, .. } | CudaError::Driver { code: NO_DEVICE, .. } => {
                "no device".to_owned()
            }
            _ => reason.clone(),
        };
        NoGpu { brief, reason }
    }
}

impl Gpu {
    /// Opens a GPU by its number in the driver's order.
    pub(crate) fn find(ordinal: u32) -> Result<Gpu, NoGpu> {
        if !cuda::is_built() {
            return Err(NoGpu::because(&CudaError::NotBuilt));
        }
        let open = || {
            let driver = driver_version()?;
            let device = Device::open(ordinal)?;
            let memory = device.memory()?.total;
            Ok(Gpu { ordinal, device, memory, driver })
        };
        let gpu: Gpu = open().map_err(|error| NoGpu::because(&error))?;
        let capability = gpu.device.compute_capability();
        if !cuda::runs_on(capability) {
            let (major, minor) = capability;
            let reason = format!(
                "no kernels for {}, which is sm_{major}{minor}: this build has {}",
                gpu.device.name(),
                cuda::targets().join(", ")
            );
            return Err(NoGpu { brief: reason.clone(), reason });
        }
        Ok(gpu)
    }

    /// As `--device` names it.
    pub(crate) fn id(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    /// Its compute capability as one number, such as 90.
    pub(crate) fn sm(&self) -> u32 {
        let (major, minor) = self.device.compute_capability();
        10 * major + minor
    }

    /// The version of CUDA that the driver is for.
    pub(crate) fn cuda_version(&self) -> String {
        format!("{}.{}", self.driver / 1000, self.driver % 1000 / 10)
    }

    /// The kernels, for people.
    pub(crate) fn kernels(&self) -> String {
        let (major, minor) = self.device.compute_capability();
        format!("{}, sm_{major}{minor}", self.device.name())
    }

    /// What the device or its driver said no to.
    pub(crate) fn failure(&self, error: CudaError) -> Failure {
        match error {
            CudaError::NotBuilt
            | CudaError::NoDriver
            | CudaError::OldDriver { .. }
            | CudaError::NoDevice { .. } => {
                Failure::Device { device: self.id(), reason: NoGpu::because(&error).reason }
            }
            CudaError::PieceTooLarge { .. } => Failure::Usage(format!("{error}; --load-chunk-mb sets it")),
            error => Failure::Cuda { device: self.id(), error: error.to_string() },
        }
    }

    /// Why a model is not on it.
    pub(crate) fn refusal(&self, error: LoadError, needed: &Needed) -> Failure {
        match error {
            LoadError::Unsupported(what) => unsupported(&what),
            LoadError::Options(text) => Failure::Usage(text),
            LoadError::Cuda(CudaError::InsufficientMemory { free, .. }) => needed.refusal(&self.id(), free),
            LoadError::Cuda(error) => self.failure(error),
        }
    }
}

/// What the kernels cannot compute.
pub(crate) fn unsupported(what: &Unsupported) -> Failure {
    Failure::Unsupported(format!("{what}; --device cpu can run it"))
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.driver / 1000, self.driver % 1000 / 10);
        let mib = thousands(self.memory >> 20);
        write!(f, "{}, {mib} MiB, driver CUDA {major}.{minor}", self.device.name())
    }
}

/// `143,771`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let groups: Vec<String> =
        Some(head.to_owned()).filter(|head| !head.is_empty()).into_iter().chain(groups).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_set_off() {
        assert_eq!(
            [0, 12, 999, 1000, 143_771, 1_000_000].map(thousands),
            ["0", "12", "999", "1,000", "143,771", "1,000,000"]
        );
    }
}
