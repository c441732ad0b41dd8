//! Devices, streams, events, launches and graphs.

use cuda::CudaError;
use cuda::driver::{
    Device, DeviceMemory, Event, EventKind, LaunchShape, Module, PinnedBuffer, Stream, driver_version, launch,
};

use crate::gpu::{Add, add, gpu, read};

const ONE_BLOCK: LaunchShape =
    LaunchShape { grid: [1, 1, 1], block: [128, 1, 1], shared_bytes: 0, pdl: false, cluster: 1 };

#[test]
fn a_machine_without_a_driver_or_device_says_so() {
    match Device::count() {
        Ok(count) => {
            assert_eq!(Device::open(count).unwrap_err(), CudaError::NoDevice { ordinal: count, count });
        }
        Err(error) => {
            assert_eq!(Device::open(0).unwrap_err(), error);
            assert!(!error.is_sticky());
        }
    }
}

#[test]
fn a_device_describes_itself() {
    let Some(gpu) = gpu() else { return };
    let memory = gpu.memory().unwrap();
    println!("{:?}, {} multiprocessors, {memory:?}", *gpu, gpu.n_sm());
    println!("driver {}, compute capability {:?}", driver_version().unwrap(), gpu.compute_capability());
    assert!(memory.free <= memory.total && memory.free > 0);
    assert!(gpu.n_sm() > 0 && gpu.compute_capability().0 >= 7 && gpu.max_shared_bytes() >= 48 << 10);
    assert!(!gpu.name().is_empty() && gpu.pci_bus_id().contains(':'));
}

#[test]
fn bytes_come_back_as_they_went() {
    let Some(gpu) = gpu() else { return };
    let stream = Stream::new(&gpu).unwrap();
    let memory = [1000u64, 4000].map(|bytes| DeviceMemory::new(&gpu, bytes).unwrap());
    let values: Vec<u32> = (0..250).map(|i| i * 77).collect();
    stream.write(memory[0].address(), &values).unwrap();
    stream.memset_async(memory[1].address(), 0xAB, 4000).unwrap();
    stream.memcpy_d2d_async(memory[1].address().offset(1000), memory[0].address(), 1000).unwrap();
    let all = read(&stream, memory[1].address(), 1000);
    assert_eq!(all[250..500], values);
    assert!(all[..250].iter().chain(&all[500..]).all(|&value| value == 0xABAB_ABAB));

    let mut pinned = PinnedBuffer::new(&gpu, 1000).unwrap();
    assert!(pinned.as_slice::<u8>().iter().all(|&byte| byte == 0));
    // SAFETY: waited for in the next line.
    unsafe { stream.memcpy_d2h_async(pinned.as_ptr(), memory[0].address(), 1000) }.unwrap();
    stream.synchronize().unwrap();
    assert_eq!(pinned.as_slice::<u32>(), values);
    assert_eq!(pinned.read_volatile::<u32>(3), 231);
    pinned.as_mut_slice::<u32>()[0] = 5;
    launch(&stream, &add(&gpu), ONE_BLOCK, &Add { values: pinned.device_ptr().unwrap(), n: 1, addend: 2 })
        .unwrap();
    stream.synchronize().unwrap();
    assert_eq!(pinned.read_volatile::<u32>(0), 7);
}

#[test]
fn kernels_run_alone_and_in_graphs() {
    let Some(gpu) = gpu() else { return };
    let stream = Stream::new(&gpu).unwrap();
    let memory = DeviceMemory::new(&gpu, 1024).unwrap();
    let values = memory.address();
    stream.memset_async(values, 0, 1024).unwrap();
    let add = add(&gpu);
    assert!(add.n_register().unwrap() > 0);
    assert_eq!(add.local_bytes().unwrap(), 0);
    assert!(add.blocks_per_sm(128, 0).unwrap() >= 8);
    add.set_max_dynamic_shared(gpu.max_shared_bytes() - 1024).unwrap();
    let shape = LaunchShape { grid: [2, 1, 1], ..ONE_BLOCK };
    launch(&stream, &add, shape, &Add { values, n: 200, addend: 1 }).unwrap();
    assert_eq!(read(&stream, values, 256).iter().sum::<u32>(), 200);

    let pdl = gpu.compute_capability().0 >= 9;
    let graph = stream
        .capture::<CudaError>(|stream| {
            for addend in [10, 100, 1000] {
                launch(stream, &add, LaunchShape { pdl, ..shape }, &Add { values, n: 256, addend })?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(graph.n_node(), 3);
    assert_eq!(read(&stream, values, 1), [1], "a capture runs nothing");
    graph.upload(&stream).unwrap();
    for _ in 0..3 {
        graph.launch(&stream).unwrap();
    }
    let all = read(&stream, values, 256);
    assert!(all[..200].iter().all(|&value| value == 3331) && all[200..].iter().all(|&value| value == 3330));
}

#[test]
fn a_failed_capture_leaves_the_stream_usable() {
    let Some(gpu) = gpu() else { return };
    let stream = Stream::new(&gpu).unwrap();
    let memory = DeviceMemory::new(&gpu, 16).unwrap();
    let refused = stream.capture::<CudaError>(|stream| {
        stream.memset_async(memory.address(), 1, 16)?;
        Err(CudaError::NotBuilt)
    });
    assert_eq!(refused.err(), Some(CudaError::NotBuilt));
    let waited = stream.capture::<CudaError>(Stream::synchronize);
    assert!(matches!(waited.err(), Some(CudaError::Driver { code: 900, .. })));
    stream.memset_async(memory.address(), 2, 16).unwrap();
    assert_eq!(read(&stream, memory.address(), 4), [0x0202_0202; 4]);
}

#[test]
fn events_order_streams_and_measure() {
    let Some(gpu) = gpu() else { return };
    let streams = [Stream::new(&gpu).unwrap(), Stream::new(&gpu).unwrap()];
    let memory = DeviceMemory::new(&gpu, 256 << 20).unwrap();
    let events = [EventKind::Timing, EventKind::Timing].map(|kind| Event::new(&gpu, kind).unwrap());
    events[0].record(&streams[0]).unwrap();
    for value in 0..20 {
        streams[0].memset_async(memory.address(), value, memory.bytes()).unwrap();
    }
    events[1].record(&streams[0]).unwrap();
    streams[1].wait(&events[1]).unwrap();
    assert_eq!(read(&streams[1], memory.address().offset((256 << 20) - 4), 1), [0x1313_1313]);
    assert!(events[1].query().unwrap());
    let elapsed = events[1].elapsed_since(&events[0]).unwrap();
    println!("memset: {:.0} GB/s", 20.0 * memory.bytes() as f64 / elapsed.as_secs_f64() / 1e9);
    assert!(elapsed.as_micros() > 10);
    let sleeping = Event::new(&gpu, EventKind::Sleeping).unwrap();
    sleeping.record(&streams[1]).unwrap();
    sleeping.synchronize().unwrap();
}

#[test]
fn what_is_not_in_a_module_is_named() {
    let Some(gpu) = gpu() else { return };
    let module = Module::load(&gpu, b"no module\0").err().unwrap();
    assert!(matches!(module, CudaError::Driver { call: "cuModuleLoadData", .. }), "{module}");
    for (name, fatbin) in cuda::MODULES {
        let module = Module::load(&gpu, fatbin).unwrap();
        assert_eq!(
            module.function("no_such_kernel").err(),
            Some(CudaError::UnknownFunction { name: "no_such_kernel".to_owned() }),
            "{name}"
        );
    }
}
