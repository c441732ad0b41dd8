// wgmma of 64 rows by N columns by 16 in k, with its second operand in shared memory by rows or by columns and its first there or in registers,
// and the few other instructions of sm_90a that prompts' products and attention are made of.
#pragma once

#include <cstdint>

// A CUtensorMap.
struct alignas(64) TensorMap {
    uint64_t words[16];
};

// Two operands of one step of a warpgroup, as matrix descriptors: 64 rows of A, N rows of W, 128-byte rows swizzled by 128 bytes.
// Eight rows are 1024 bytes, which must begin at a multiple of 1024 bytes.
__device__ __forceinline__ uint64_t operand(uint32_t shared) {
    constexpr uint64_t EIGHT_ROWS = 1024 >> 4, SWIZZLE_128 = 1;
    return ((shared & 0x3ffff) >> 4) | 1ull << 16 | EIGHT_ROWS << 32 | SWIZZLE_128 << 62;
}

// The sums of a product as operands of its instruction.
#define FOUR(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define EIGHT(c, i) FOUR(c, i), FOUR(c, i + 4)
#define SIXTEEN(c, i) EIGHT(c, i), EIGHT(c, i + 8)
#define THIRTY_TWO(c, i) SIXTEEN(c, i), SIXTEEN(c, i + 16)
#define SIXTY_FOUR(c, i) THIRTY_TWO(c, i), THIRTY_TWO(c, i + 32)

#define WEIGHTS_AND_COLUMNS(a, b) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)

// And the sums as the instruction names them: the first so many.
#define SUMS_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SUMS_48 \
    SUMS_32 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define SUMS_64 \
    SUMS_48 \
    ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SUMS_96 \
    SUMS_64 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define SUMS_128 \
    SUMS_96 \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// The sums' layout: PromptPart in prompt_gemm.cuh, 64 columns after 64 columns; warp w of the warpgroup has rows 16 w to 16 w + 15.
// `keep` 0 begins at zero instead of c.
template <int N>
__device__ __forceinline__ void wgmma_k16(float* c, uint64_t a, uint64_t w, int keep) {
    static_assert(N == 64 || N == 128 || N == 256, "columns that a tile has");
    if constexpr (N == 64)
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" SUMS_32 "}, %32, %33, p, 1, 1, 0, 0; }"
                     : THIRTY_TWO(c, 0)
                     : "l"(a), "l"(w), "r"(keep));
    if constexpr (N == 128)
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" SUMS_64 "}, %64, %65, p, 1, 1, 0, 0; }"
                     : SIXTY_FOUR(c, 0)
                     : "l"(a), "l"(w), "r"(keep));
    if constexpr (N == 256)
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" SUMS_128 "}, %128, %129, p, 1, 1, 0, 0; }"
                     : SIXTY_FOUR(c, 0), SIXTY_FOUR(c, 64)
                     : "l"(a), "l"(w), "r"(keep));
}

// The second operand of a product with as many columns as W's rows are long: W is [16 in k, N], in parts of 64 columns, `part_bytes` apart, whose
// 128-byte rows are swizzled by 128 bytes.
__device__ __forceinline__ uint64_t operand_of_columns(uint32_t shared, uint32_t part_bytes) {
    constexpr uint64_t EIGHT_ROWS = 1024 >> 4, SWIZZLE_128 = 1;
    return ((shared & 0x3ffff) >> 4) | (uint64_t)(part_bytes >> 4) << 16 | EIGHT_ROWS << 32 | SWIZZLE_128 << 62;
}

// c += A W, with A's 64 rows in registers: as `mma_f16` in tensor_core.cuh wants them, 16 rows a warp. BY_COLUMNS 0: W is N rows (`operand`), 1: N
// columns (`operand_of_columns`).
template <int N, int BY_COLUMNS>
__device__ __forceinline__ void wgmma_k16_of_registers(float* c, const uint32_t (&a)[4], uint64_t w) {
    static_assert(N == 64 || N == 96 || N == 128 || N == 192 || N == 256, "values of a head, or rows of activations");
    if constexpr (N == 64)
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" SUMS_32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, %37;"
                     : THIRTY_TWO(c, 0)
                     : WEIGHTS_AND_COLUMNS(a, w), "n"(BY_COLUMNS));
    if constexpr (N == 96)
        asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 {" SUMS_48 "}, {%48, %49, %50, %51}, %52, 1, 1, 1, %53;"
                     : THIRTY_TWO(c, 0), SIXTEEN(c, 32)
                     : WEIGHTS_AND_COLUMNS(a, w), "n"(BY_COLUMNS));
    if constexpr (N == 128)
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" SUMS_64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, %69;"
                     : SIXTY_FOUR(c, 0)
                     : WEIGHTS_AND_COLUMNS(a, w), "n"(BY_COLUMNS));
    if constexpr (N == 192)
        asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {" SUMS_96 "}, {%96, %97, %98, %99}, %100, 1, 1, 1, %101;"
                     : SIXTY_FOUR(c, 0), THIRTY_TWO(c, 64)
                     : WEIGHTS_AND_COLUMNS(a, w), "n"(BY_COLUMNS));
    if constexpr (N == 256)
        asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" SUMS_128 "}, {%128, %129, %130, %131}, %132, 1, 1, 1, %133;"
                     : SIXTY_FOUR(c, 0), SIXTY_FOUR(c, 64)
                     : WEIGHTS_AND_COLUMNS(a, w), "n"(BY_COLUMNS));
}

// After a wait: the sums are read only now. The compiler takes them for complete as soon as they are asked for.
template <int N>
__device__ __forceinline__ void sums_are_there(float (&c)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(c[i])::"memory");
}

// Before the first wgmma that uses registers the thread has written.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most PENDING of the committed groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// After the initialisations, by the thread that made them: the copy engine sees them, and after a __syncthreads() the other threads.
__device__ __forceinline__ void barriers_visible() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and adds bytes that the phase waits for.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Until the phase of this parity is complete.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile(
        "{ .reg .pred done; again%=: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again%=; }" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// Whether this is the one lane of a warp, whose lanes are together, that starts copies. That it is one the compiler knows by this instruction
// alone: for `lane == 0`, or a lane a copy, it makes a loop over the lanes around each copy.
__device__ __forceinline__ bool elected() {
    uint32_t is_elected;
    asm volatile("{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.b32 %0, 1, 0, p; }" : "=r"(is_elected)::"memory");
    return is_elected != 0;
}

// Copies a box of the map's matrix, of the size the map was made with, beginning at (row, k), to shared memory.
__device__ __forceinline__ void copy_box(uint32_t to, const void* map, int k, int row, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(k), "r"(row), "r"(barrier)
                 : "memory");
}

// Copies bytes that follow each other, whole sixteens, to shared memory.
__device__ __forceinline__ void copy_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
                 "r"(barrier)
                 : "memory");
}

// Moves registers between the warpgroups of a block: the one that only starts copies needs few.
template <int REGISTERS>
__device__ __forceinline__ void registers_down_to() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void registers_up_to() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
