//! Arenas: refused or allocated whole, watched, and freed to the byte.

use std::time::{Duration, Instant};

use cuda::CudaError;
use cuda::arena::{Arena, ArenaPlan, Purpose};
use cuda::driver::{Device, DeviceMemory, PinnedBuffer, Stream};
use cuda::residency::{Allocation, INTERVAL, Residency};

use crate::gpu::{add, gpu, read};

#[test]
fn what_does_not_fit_is_refused_before_anything_is_allocated() {
    let Some(gpu) = gpu() else { return };
    let before = gpu.memory().unwrap();
    let mut plan = ArenaPlan::new();
    plan.add(Purpose::Weights, 1 << 20);
    let needed = plan.needed();
    let refused = Arena::new(&gpu, &plan, before.free).err();
    assert_eq!(
        refused,
        Some(CudaError::InsufficientMemory { needed: needed + before.free, free: before.free })
    );
    plan.add(Purpose::KvCache, before.total);
    assert!(matches!(Arena::new(&gpu, &plan, 0), Err(CudaError::InsufficientMemory { .. })));
    assert!(matches!(DeviceMemory::new(&gpu, before.total), Err(CudaError::InsufficientMemory { .. })));
    assert_eq!(gpu.memory().unwrap(), before);
}

#[test]
fn an_arena_is_resident_and_its_regions_are_apart() {
    let Some(gpu) = gpu() else { return };
    let stream = Stream::new(&gpu).unwrap();
    let mut plan = ArenaPlan::new();
    let regions = [
        plan.add(Purpose::Weights, 100),
        plan.add(Purpose::Weights, 5 << 20),
        plan.add(Purpose::Activations, 1),
    ];
    let arena = Arena::new(&gpu, &plan, 1 << 30).unwrap();
    arena.clear(Purpose::Weights, &stream).unwrap();
    arena.clear(Purpose::KvCache, &stream).unwrap();
    assert_eq!(read(&stream, arena.take(regions[1]).offset((5 << 20) - 4), 1), [0]);
    let addresses = regions.map(|region| arena.take(region).0);
    assert!(addresses.iter().all(|address| address % 256 == 0));
    assert_eq!(addresses[1] - addresses[0], 256);
    let residency = arena.watch(INTERVAL).unwrap();
    residency.check().unwrap();
    assert!(residency.is_healthy());
    let start = Instant::now();
    drop(residency);
    assert!(start.elapsed() < Duration::from_secs(1), "the watching thread stops at once");
}

#[test]
fn memory_elsewhere_is_found() {
    let Some(gpu) = gpu() else { return };
    let pinned = PinnedBuffer::new(&gpu, 4096).unwrap();
    let allocation = Allocation { what: "weights", address: pinned.device_ptr().unwrap(), bytes: 4096 };
    let error = Residency::watch(&gpu, vec![allocation], INTERVAL).err().unwrap();
    println!("{error}");
    assert!(matches!(error, CudaError::NotResident { what: "weights", expected: "device memory", .. }));
}

#[test]
fn the_watching_thread_notices_what_goes() {
    let Some(gpu) = gpu() else { return };
    let memory = DeviceMemory::new(&gpu, 64 << 20).unwrap();
    let allocation = Allocation { what: "weights", address: memory.address(), bytes: memory.bytes() };
    let residency = Residency::watch(&gpu, vec![allocation], Duration::from_millis(5)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let health = residency.health();
    assert!(residency.is_healthy());
    drop(memory);
    let start = Instant::now();
    while residency.is_healthy() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!residency.is_healthy());
    println!("{}", residency.check().unwrap_err());
    drop(residency);
    assert!(!health.load(std::sync::atomic::Ordering::Acquire));
}

#[test]
fn everything_is_freed_to_the_byte() {
    let Some(gpu) = gpu() else { return };
    let crate::gpu::Gpu { device, lock: _lock } = gpu;
    drop(device);
    let mut free = Vec::new();
    for _ in 0..10 {
        let device = Device::open(0).unwrap();
        free.push(device.memory().unwrap().free);
        let mut plan = ArenaPlan::new();
        plan.add(Purpose::Weights, 3_000_000_001);
        plan.add(Purpose::Activations, 12_345);
        let arena = Arena::new(&device, &plan, 0).unwrap();
        let stream = Stream::new(&device).unwrap();
        arena.clear(Purpose::Weights, &stream).unwrap();
        let add = add(&device);
        let graph = stream
            .capture::<CudaError>(|stream| {
                let shape = cuda::driver::LaunchShape {
                    grid: [1; 3],
                    block: [32, 1, 1],
                    shared_bytes: 0,
                    pdl: false,
                    cluster: 1,
                };
                let region = plan.clone().add(Purpose::KvCache, 0);
                let values = arena.take(region);
                cuda::driver::launch(stream, &add, shape, &crate::gpu::Add { values, n: 0, addend: 0 })
            })
            .unwrap();
        graph.launch(&stream).unwrap();
        stream.synchronize().unwrap();
    }
    println!("free: {free:?}");
    assert!(free.iter().all(|&bytes| bytes == free[0]), "{free:?}");
}
