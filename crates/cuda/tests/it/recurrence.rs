//! The gated delta rule and its convolution: the kernels for few rows of a sequence have the bits of those for many.

use bytemuck::{Pod, Zeroable};
use cuda::driver::{DeviceMemory, DevicePtr, LaunchShape, Module, Stream, launch};

use crate::gpu::{Gpu, gpu, read};

/// `ConvArgs` of recurrence.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Conv {
    x: DevicePtr,
    out: DevicePtr,
    taps: DevicePtr,
    state: DevicePtr,
    rows: DevicePtr,
    factor: DevicePtr,
    stride: u64,
    ld: i32,
    n_row: i32,
    n_channel: i32,
    n_tap: i32,
}

/// `DeltaArgs` of recurrence.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Delta {
    qkv: DevicePtr,
    gate: DevicePtr,
    alpha: DevicePtr,
    beta: DevicePtr,
    a: DevicePtr,
    dt: DevicePtr,
    norm: DevicePtr,
    out: DevicePtr,
    state: DevicePtr,
    rows: DevicePtr,
    stride: u64,
    n_row: i32,
    n_k_head: i32,
    n_v_head: i32,
    eps: f32,
}

/// `DeltaFewArgs` of recurrence.cu, of which `f` is the one form that is wanted.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct DeltaFew {
    delta: Delta,
    q: DevicePtr,
    s: DevicePtr,
    f: DevicePtr,
    h: DevicePtr,
    n_col: i32,
    k_pad: i32,
}

/// Slots of a step's rows: one of a sequence, or several, and padding.
const SLOTS: [&[i32]; 3] = [&[2], &[0, 3, 1, 2], &[0, 0, 1, -1, 2, 2, 2, 2, 2, -1, 3]];
const N_SLOT: usize = 4;

/// Bytes of each array.
const ROOM: u64 = 4 << 20;

struct Device {
    stream: Stream,
    module: Module,
    memory: DeviceMemory,
    _gpu: Gpu,
}

impl Device {
    fn new() -> Option<Device> {
        let gpu = gpu()?;
        let module = Module::load(&gpu, cuda::module("recurrence").unwrap()).unwrap();
        let memory = DeviceMemory::new(&gpu, 12 * ROOM).unwrap();
        Some(Device { stream: Stream::new(&gpu).unwrap(), module, memory, _gpu: gpu })
    }

    fn at(&self, i: u64) -> DevicePtr {
        self.memory.address().offset(i * ROOM)
    }

    /// Writes `n` numbers between -1 and 1, always the same for an array.
    fn numbers(&self, i: u64, n: usize) -> DevicePtr {
        let mut state = i + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let numbers: Vec<f32> = (0..n).map(|_| next()).collect();
        assert!(4 * n as u64 <= ROOM);
        self.stream.write(self.at(i), &numbers).unwrap();
        self.at(i)
    }

    fn rows(&self, i: u64, slots: &[i32]) -> DevicePtr {
        let rows: Vec<[i32; 4]> = slots.iter().map(|&slot| [slot, 0, 0, 0]).collect();
        self.stream.write(self.at(i), &rows).unwrap();
        self.at(i)
    }

    fn launch<A: Pod>(&self, name: &str, grid: [u32; 3], n_thread: u32, args: &A) {
        let shape = LaunchShape { grid, block: [n_thread, 1, 1], shared_bytes: 0, pdl: false, cluster: 1 };
        launch(&self.stream, &self.module.function(name).unwrap(), shape, args).unwrap();
    }

    fn bits(&self, at: DevicePtr, n: usize) -> Vec<u32> {
        read(&self.stream, at, n)
    }
}

#[test]
fn a_convolution_of_few_rows_has_the_bits_of_one_of_many() {
    let Some(device) = Device::new() else { return };
    let n_channel = 300;
    for (slots, n_tap) in SLOTS.into_iter().flat_map(|slots| [1, 2, 3, 4, 6].map(|n_tap| (slots, n_tap))) {
        let n_state = (n_tap - 1) * n_channel;
        let run = |launches: &[&str], out: u64| {
            let args = Conv {
                x: device.numbers(0, slots.len() * n_channel),
                out: device.at(out),
                taps: device.numbers(1, n_channel * n_tap),
                state: device.numbers(2, N_SLOT * n_state + 1),
                rows: device.rows(3, slots),
                stride: n_state as u64,
                n_row: slots.len() as i32,
                n_channel: n_channel as i32,
                n_tap: n_tap as i32,
                ..Conv::zeroed()
            };
            for name in launches {
                device.launch(name, [slots.len() as u32, n_channel.div_ceil(256) as u32, 1], 256, &args);
            }
            (device.bits(args.out, slots.len() * n_channel), device.bits(args.state, N_SLOT * n_state))
        };
        let (many, few) = (run(&["conv_rows", "conv_keep"], 4), run(&["conv_steps"], 5));
        assert!(many == few, "{slots:?}, {n_tap} taps");
    }
}

#[test]
fn the_delta_rule_of_few_rows_has_the_bits_of_that_of_many() {
    let Some(device) = Device::new() else { return };
    let (n_k_head, n_v_head) = (2, 4);
    for (slots, size) in SLOTS.into_iter().flat_map(|slots| [32, 64, 128].map(|size| (slots, size))) {
        let (n_row, n_v, n_state) = (slots.len(), n_v_head * size, n_v_head * size * size);
        // More than the heads fill.
        let k_pad = n_v + 64;
        let args = || Delta {
            qkv: device.numbers(0, n_row * (2 * n_k_head + n_v_head) * size),
            gate: device.numbers(1, n_row * n_v),
            alpha: device.numbers(2, n_row * n_v_head),
            beta: device.numbers(3, n_row * n_v_head),
            a: device.numbers(4, n_v_head),
            dt: device.numbers(5, n_v_head),
            norm: device.numbers(6, size),
            out: device.numbers(7, n_row * n_v),
            state: device.numbers(8, N_SLOT * n_state),
            rows: device.rows(9, slots),
            stride: n_state as u64,
            n_row: n_row as i32,
            n_k_head: n_k_head as i32,
            n_v_head: n_v_head as i32,
            eps: 1e-6,
        };
        let many = args();
        let columns = [(n_v_head * size / 32) as u32, n_row as u32, 1];
        device.launch(&format!("delta_rule_{size}"), columns, 128, &many);
        device.launch(
            &format!("delta_gate_{size}"),
            [n_row as u32, n_v_head.div_ceil(4) as u32, 1],
            128,
            &many,
        );
        let found = (device.bits(many.out, n_row * n_v), device.bits(many.state, N_SLOT * n_state));
        let few = DeltaFew {
            delta: args(),
            f: device.numbers(10, n_row * k_pad),
            n_col: n_row as i32,
            k_pad: k_pad as i32,
            ..DeltaFew::zeroed()
        };
        device.launch(
            &format!("delta_few_{size}"),
            [n_v_head as u32, n_row as u32, 1],
            4 * size as u32,
            &few,
        );
        let activations = device.bits(few.f, n_row * k_pad);
        for (row, (found, few)) in found.0.chunks(n_v).zip(activations.chunks(k_pad)).enumerate() {
            assert!(*found == few[..n_v], "row {row} of {slots:?}, heads of {size}");
            assert!(few[n_v..].iter().all(|&bits| bits == 0), "row {row} of {slots:?}, heads of {size}");
        }
        assert!(found.1 == device.bits(few.delta.state, N_SLOT * n_state), "{slots:?}, heads of {size}");
    }
}
