//! What can go wrong with a CUDA device, and whether anything of it can be used afterwards.

use thiserror::Error;

/// Why something on a CUDA device failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CudaError {
    /// The machine has no NVIDIA driver.
    #[error("found no NVIDIA driver: the library libcuda.so.1 cannot be loaded")]
    NoDriver,
    /// The driver is older than the kernels.
    #[error("the NVIDIA driver is too old: expected one for CUDA {}.{} or later, found {}.{}",
            .expected / 1000, .expected % 1000 / 10, .found / 1000, .found % 1000 / 10)]
    OldDriver {
        /// The version of CUDA that the program needs, times 1000: 13000 is 13.0.
        expected: u32,
        /// The version that the driver has.
        found: u32,
    },
    /// No such device.
    #[error("no CUDA device {ordinal}: the driver has {count}")]
    NoDevice {
        /// What was asked for, counted from 0.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The program was built without a CUDA compiler.
    #[error("built without CUDA kernels: found no nvcc when this program was compiled")]
    NotBuilt,
    /// There is no file `NAME.cu` among the kernels.
    #[error("no module {name:?} among the CUDA kernels")]
    UnknownModule {
        /// What was asked for.
        name: String,
    },
    /// The module has no such kernel.
    #[error("no kernel {name:?} in its module")]
    UnknownFunction {
        /// What was asked for.
        name: String,
    },
    /// It does not fit.
    #[error("insufficient memory on the device: {needed} bytes needed, {free} bytes free")]
    InsufficientMemory {
        /// Bytes, with what must stay free.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// Memory that must lie on the device does not.
    #[error(
        "the {what} at {address:#x} must lie in the device's own memory: expected {expected}, found {found}"
    )]
    NotResident {
        /// What lies there.
        what: &'static str,
        /// Its first address.
        address: u64,
        /// The fact that must hold.
        expected: &'static str,
        /// What the driver says.
        found: String,
    },
    /// A piece of weights is larger than a buffer of the loader.
    #[error("piece {index} of the weights has {bytes} bytes: expected at most {limit}")]
    PieceTooLarge {
        /// Its place in the list.
        index: usize,
        /// Its size.
        bytes: usize,
        /// The size of a buffer.
        limit: usize,
    },
    /// A call of the driver failed.
    #[error("{call} failed: {name} ({code}): {message}")]
    Driver {
        /// The function of the driver.
        call: &'static str,
        /// `CUresult`.
        code: u32,
        /// The code's name, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        name: String,
        /// What the driver says about it.
        message: String,
    },
}

impl CudaError {
    /// Whether the device's context is lost: all later calls fail too, until the process ends.
    ///
    /// Source: CUDA Driver API 13.0, `CUresult`: codes documented to leave the process in an inconsistent state, and those
    /// that say that the device or the context is gone.
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        // 46 device unavailable, 214 and 220 uncorrectable errors of memory and link, 226 contained error, 700 illegal address,
        // 702 launch timeout, 709 context destroyed, 710 assertion, 714 to 719 faults of a kernel, 721 tensor memory leak,
        // 911 external device, 999 unknown.
        matches!(
            self,
            CudaError::Driver {
                code: 46 | 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 911 | 999,
                ..
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::CudaError;

    #[test]
    fn faults_of_a_kernel_lose_the_context_and_a_full_memory_does_not() {
        let error = |code| CudaError::Driver {
            call: "cuStreamSynchronize",
            code,
            name: String::new(),
            message: String::new(),
        };
        assert!([700, 719, 214].iter().all(|&code| error(code).is_sticky()));
        assert!([1, 2, 209, 600].iter().all(|&code| !error(code).is_sticky()));
    }

    #[test]
    fn versions_read_as_people_write_them() {
        let error = CudaError::OldDriver { expected: 13000, found: 12080 };
        assert_eq!(
            error.to_string(),
            "the NVIDIA driver is too old: expected one for CUDA 13.0 or later, found 12.8"
        );
    }
}
