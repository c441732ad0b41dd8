//! Which entries does each expert get? `route_decode` of many rows, and the kernels that have router and choice in one, against a plain sort.

use bytemuck::{Pod, Zeroable};
use cuda::driver::{DeviceMemory, DevicePtr, Function, LaunchShape, Module, Stream, launch};

use crate::gpu::{Gpu, gpu};

/// Of choose.cuh.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Rule {
    bias: DevicePtr,
    factors: DevicePtr,
    n_expert: i32,
    n_used: i32,
    gating: i32,
    is_normalised: i32,
    n_group: i32,
    n_group_used: i32,
    scale: f32,
    reserved: i32,
}

/// `RouteArgs` of route_decode.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Route {
    logits: DevicePtr,
    rows: DevicePtr,
    weights: DevicePtr,
    active: DevicePtr,
    offsets: DevicePtr,
    entries: DevicePtr,
    n_row: i32,
    reserved: i32,
    rule: Rule,
}

/// `RouterArgs` of route_decode.cu.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Router {
    x: DevicePtr,
    weight: DevicePtr,
    bias: DevicePtr,
    logits: DevicePtr,
    k_pad: i32,
    n_embd: i32,
    n_expert: i32,
    eps: f32,
    squares: DevicePtr,
    n_row: i32,
    reserved: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RouteFew {
    router: Router,
    route: Route,
}

const ONE_BLOCK: LaunchShape =
    LaunchShape { grid: [1, 1, 1], block: [256, 1, 1], shared_bytes: 0, pdl: false, cluster: 1 };

/// Where everything is on the device.
struct Routing {
    gpu: Gpu,
    stream: Stream,
    module: Module,
    _memory: DeviceMemory,
    at: DevicePtr,
}

/// Bytes of each array.
const ROOM: u64 = 1 << 20;

impl Routing {
    fn new() -> Option<Routing> {
        let gpu = gpu()?;
        let module = Module::load(&gpu, cuda::module("route_decode").unwrap()).unwrap();
        let memory = DeviceMemory::new(&gpu, 9 * ROOM).unwrap();
        let at = memory.address();
        Some(Routing { stream: Stream::new(&gpu).unwrap(), gpu, module, _memory: memory, at })
    }

    fn function(&self, name: &str) -> Function {
        self.module.function(name).unwrap()
    }

    fn array(&self, i: u64) -> DevicePtr {
        self.at.offset(i * ROOM)
    }

    fn args(&self, [n_row, n_expert, n_used]: [usize; 3]) -> Route {
        let array = |i| self.array(i);
        // Softmax of the chosen: the order is that of the logits.
        let rule = Rule {
            n_expert: n_expert as i32,
            n_used: n_used as i32,
            gating: 2,
            scale: 1.0,
            ..Rule::zeroed()
        };
        Route {
            logits: array(0),
            rows: array(1),
            weights: array(2),
            active: array(3),
            offsets: array(4),
            entries: array(5),
            n_row: n_row as i32,
            reserved: 0,
            rule,
        }
    }

    /// The map of `n_row` rows to `n_expert` results, of numbers that are written for it.
    fn router(&self, [n_row, n_embd, n_expert]: [usize; 3]) -> Router {
        let (x, weight) = (self.array(7), self.array(6));
        self.stream.write(weight, &numbers(n_expert * n_embd, 999)).unwrap();
        self.stream.write(x, &numbers(n_row * n_embd, 777)).unwrap();
        Router {
            x,
            weight,
            logits: self.array(0),
            k_pad: n_embd as i32,
            n_embd: n_embd as i32,
            n_expert: n_expert as i32,
            n_row: n_row as i32,
            ..Router::zeroed()
        }
    }

    /// Every fifth row is padding, but not the first.
    fn write_rows(&self, n_row: usize) {
        let rows: Vec<[i32; 4]> =
            (0..n_row as i32).map(|row| [if row % 5 == 4 { -1 } else { row }, 0, 0, 0]).collect();
        self.stream.write(self.array(1), &rows).unwrap();
    }

    /// Active experts with their entries, as the device has them.
    fn found(&self, n_expert: usize, n_entry: usize) -> Vec<(usize, Vec<u32>)> {
        let read = |i, n| crate::gpu::read(&self.stream, self.array(i), n);
        let (active, offsets, entries) = (read(3, 1 + n_expert), read(4, 1 + n_expert), read(5, n_entry));
        let experts = active[1..=active[0] as usize].iter().map(|&expert| expert as usize);
        experts
            .map(|expert| (expert, entries[offsets[expert] as usize..offsets[expert + 1] as usize].to_vec()))
            .collect()
    }
}

/// The same by a sort. Logits are small integers, so that some tie.
fn expected(logits: &[f32], [n_expert, n_used]: [usize; 2]) -> Vec<(usize, Vec<u32>)> {
    let mut experts = vec![Vec::new(); n_expert];
    for (row, logits) in logits.chunks(n_expert).enumerate().filter(|(row, _)| row % 5 != 4) {
        let mut order: Vec<usize> = (0..n_expert).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        for (choice, &expert) in order[..n_used].iter().enumerate() {
            experts[expert].push((row * n_used + choice) as u32);
        }
    }
    experts.into_iter().enumerate().filter(|(_, entries)| !entries.is_empty()).collect()
}

/// Numbers from -range to range, always the same.
fn numbers(n: usize, range: i64) -> Vec<f32> {
    let mut state = 12345u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64
    };
    (0..n).map(|_| (next() % (2 * range + 1) - range) as f32).collect()
}

#[test]
fn entries_of_many_rows_are_sorted_by_expert() {
    let Some(routing) = Routing::new() else { return };
    let kernel = routing.function("route_decode");
    for [n_row, n_expert, n_used] in [
        [1, 1, 1],
        [1, 8, 2],
        [7, 33, 5],
        [64, 128, 8],
        [128, 128, 8],
        [200, 300, 10],
        [256, 512, 16],
        [256, 20, 16],
    ] {
        let logits = numbers(n_row * n_expert, 200);
        routing.stream.write(routing.array(0), &logits).unwrap();
        routing.write_rows(n_row);
        let shape = LaunchShape { block: [1024, 1, 1], ..ONE_BLOCK };
        launch(&routing.stream, &kernel, shape, &routing.args([n_row, n_expert, n_used])).unwrap();
        let found = routing.found(n_expert, n_row * n_used);
        assert_eq!(found, expected(&logits, [n_expert, n_used]), "{n_row} rows, {n_used} of {n_expert}");
    }
}

#[test]
fn router_and_choice_in_one_are_as_apart() {
    let Some(routing) = Routing::new() else { return };
    if routing.gpu.compute_capability().0 < 9 {
        println!("skipped: this GPU has no clusters");
        return;
    }
    let (router, choose) = (routing.function("router"), routing.function("route_decode"));
    for (name, n_thread, most) in [("route_few", 128, 32), ("route_few_128", 512, 128)] {
        let few = routing.function(name);
        for (n_row, n_expert, n_used) in [(1, most, 8), (4, most - 1, 5), (3, 9, 2)] {
            routing.write_rows(n_row);
            let args = routing.router([n_row, 260, n_expert]);
            let route = routing.args([n_row, n_expert, n_used]);
            let grid = [n_row as u32, n_expert.div_ceil(8) as u32, 1];
            launch(&routing.stream, &router, LaunchShape { grid, ..ONE_BLOCK }, &args).unwrap();
            launch(&routing.stream, &choose, LaunchShape { block: [1024, 1, 1], ..ONE_BLOCK }, &route)
                .unwrap();
            let weights = || crate::gpu::read(&routing.stream, routing.array(2), n_row * n_used);
            let apart = (routing.found(n_expert, n_row * n_used), weights());
            for i in [0, 2, 3, 4, 5] {
                routing.stream.memset_async(routing.array(i), 0xFF, ROOM).unwrap();
            }
            let shape = LaunchShape { grid: [8, 1, 1], block: [n_thread, 1, 1], cluster: 8, ..ONE_BLOCK };
            launch(&routing.stream, &few, shape, &RouteFew { router: args, route }).unwrap();
            let found = (routing.found(n_expert, n_row * n_used), weights());
            assert_eq!(found, apart, "{name}: {n_row} rows, {n_used} of {n_expert}");
        }
    }
}

#[test]
fn rows_that_share_a_router_s_weights_have_the_logits_of_each() {
    let Some(routing) = Routing::new() else { return };
    let (n_row, n_expert) = (67, 75);
    let args = Router { bias: routing.array(7), ..routing.router([n_row, 516, n_expert]) };
    let logits = |name: &str, grid| {
        routing.stream.memset_async(routing.array(0), 0xFF, ROOM).unwrap();
        let shape = LaunchShape { grid, ..ONE_BLOCK };
        launch(&routing.stream, &routing.function(name), shape, &args).unwrap();
        crate::gpu::read(&routing.stream, routing.array(0), n_row * n_expert + 1)
    };
    let one = logits("router", [n_row as u32, n_expert.div_ceil(8) as u32, 1]);
    assert_eq!(one[n_row * n_expert], u32::MAX, "nothing is written past the end");
    for (name, [rows, n]) in
        [("router_ahead", [1, 8]), ("router_few_rows", [4, 16]), ("router_many_rows", [4, 32])]
    {
        let grid = [n_row.div_ceil(rows) as u32, n_expert.div_ceil(n) as u32, 1];
        assert_eq!(logits(name, grid), one, "{name}");
    }
}
