//! A GPU for a test alone: tests that count free memory must not see each other's.

use std::fs::File;
use std::ops::Deref;
use std::sync::Arc;

use cuda::driver::{Device, Function, Module, Stream};

/// An open device, and a lock against all other tests, of other processes too.
pub(crate) struct Gpu {
    pub(crate) device: Arc<Device>,
    pub(crate) lock: File,
}

impl Deref for Gpu {
    type Target = Arc<Device>;

    fn deref(&self) -> &Arc<Device> {
        &self.device
    }
}

/// The first GPU, or `None`, with the reason printed.
pub(crate) fn gpu() -> Option<Gpu> {
    match Device::count() {
        Ok(0) => eprintln!("skipped: the driver has no device"),
        Err(error) => eprintln!("skipped: {error}"),
        Ok(_) => {
            let lock = File::create(std::env::temp_dir().join("worker-orcd-gpu-tests.lock")).unwrap();
            lock.lock().unwrap();
            return Some(Gpu { device: Device::open(0).unwrap(), lock });
        }
    }
    None
}

/// `add(u32* values, u32 n, u32 addend)`: values[i] += addend. As text, so that it runs whatever the kernels were compiled for.
const ADD: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry add(.param .align 8 .b8 args[16]) {
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %d<4>;
    ld.param.u64 %d0, [args];
    ld.param.u32 %r0, [args+8];
    ld.param.u32 %r1, [args+12];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r0;
    @%p ret;
    mul.wide.u32 %d1, %r5, 4;
    add.u64 %d2, %d0, %d1;
    ld.global.u32 %r6, [%d2];
    add.u32 %r7, %r6, %r1;
    st.global.u32 [%d2], %r7;
    ret;
}
\0";

/// The argument of `add`.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Add {
    pub(crate) values: cuda::driver::DevicePtr,
    pub(crate) n: u32,
    pub(crate) addend: u32,
}

pub(crate) fn add(device: &Arc<Device>) -> Function {
    Module::load(device, ADD.as_bytes()).unwrap().function("add").unwrap()
}

/// `n` values from the device.
pub(crate) fn read(stream: &Stream, from: cuda::driver::DevicePtr, n: usize) -> Vec<u32> {
    let mut values = vec![0u32; n];
    stream.read(&mut values, from).unwrap();
    values
}
