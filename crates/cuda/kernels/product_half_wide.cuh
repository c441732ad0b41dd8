// Products in float16 for more columns, on wgmma with the weights as operand A from registers: for sm_90a.
//
// A block computes 8 tiles of 16 rows for 8 NT columns, a warp one of the tiles. The four warps of a warpgroup share what is read of the
// activations. A ninth warp keeps stages of some units on their way to shared memory with the copy engine: a barrier `full` a stage counts the
// bytes that arrived, a barrier `empty` the warps that have read them. A block takes all ranges one after the other; or 8 blocks form a cluster,
// a range each, and each of them adds and finishes NT of the columns.
#pragma once

#include "product_half.cuh"

template <int F, int NT>
struct HalfWideStage {
    using L = Layout<F>;
    static constexpr int ROOM = 104 << 10;  // two blocks a multiprocessor
    // Four, or where two stages of so many have no room, two.
    static constexpr int UNITS = 2 * (WARPS * (4 * L::UNIT + L::TAIL) + 8 * NT * 512) <= ROOM ? 4 : 2;
    static constexpr int WEIGHTS = UNITS * L::UNIT + L::TAIL;  // of a tile
    static constexpr int AT_ACTIVATIONS = WARPS * WEIGHTS;     // [block of 32][8 columns][part][column][8]
    static constexpr int BYTES = AT_ACTIVATIONS + UNITS * 2 * NT * 512;
    static constexpr int COUNT = ROOM / BYTES < 8 ? ROOM / BYTES : 8;
    static_assert(COUNT >= 2, "a stage is given back when the next one is there");
    // Dynamic shared memory: the stages, whose place the sums take; what a block of a cluster finishes; the columns' scales; the barriers.
    static constexpr int SUMS = WARPS * 16 * (8 * NT + 1) * 4;
    static constexpr int AT_MINE = COUNT * BYTES > SUMS ? COUNT * BYTES : SUMS;
    static constexpr int AT_SCALES = AT_MINE + WARPS * 16 * (NT + 1) * 4;
    static constexpr int AT_BARRIERS = AT_SCALES + 8 * NT * 4;
    static constexpr int SHARED = AT_BARRIERS + COUNT * 16;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#include "prompt_gemm_sm90.cuh"

__device__ __forceinline__ void copy_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
                 "r"(barrier)
                 : "memory");
}

#define FOUR(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define EIGHT(c, i) FOUR(c, i), FOUR(c, i + 4)
#define SIXTEEN(c, i) EIGHT(c, i), EIGHT(c, i + 8)
#define WEIGHTS_AND_COLUMNS(a, b) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)

template <int NT>
__device__ __forceinline__ void wgmma_step(float (&c)[4 * NT], const uint32_t (&a)[4], uint64_t b) {
    if constexpr (NT == 1)
        asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, 1, 1, 1, 0;"
                     : FOUR(c, 0)
                     : WEIGHTS_AND_COLUMNS(a, b));
    if constexpr (NT == 2)
        asm volatile("wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, 1, 1, 1, 0;"
                     : EIGHT(c, 0)
                     : WEIGHTS_AND_COLUMNS(a, b));
    if constexpr (NT == 4)
        asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, "
                     "%15}, {%16, %17, %18, %19}, %20, 1, 1, 1, 0;"
                     : SIXTEEN(c, 0)
                     : WEIGHTS_AND_COLUMNS(a, b));
    if constexpr (NT == 8)
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, "
                     "%15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
                     : SIXTEEN(c, 0), SIXTEEN(c, 16)
                     : WEIGHTS_AND_COLUMNS(a, b));
}

// After a wait: the sums are read only now. The compiler takes them for complete as soon as they are asked for.
template <int N>
__device__ __forceinline__ void sums_are_there(float (&c)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(c[i])::"memory");
}

// A block of 32. Activations are core matrices of 8 columns and 8 values: 128 bytes to the next values, 512 to the next columns.
template <int NT>
__device__ __forceinline__ void wgmma_block(float (&c)[4 * NT], const uint32_t (&a)[2][4], uint32_t act) {
    const uint64_t b = (uint64_t)((act & 0x3FFFF) >> 4) | (uint64_t)(128 >> 4) << 16 | (uint64_t)(512 >> 4) << 32;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    wgmma_step<NT>(c, a[0], b);
    wgmma_step<NT>(c, a[1], b + (256 >> 4));
    wgmma_commit();
}

// What the copying warp and the multiplying ones agree on.
template <int F, int NT>
struct HalfPart {
    using S = HalfWideStage<F, NT>;
    const ProductArgs& args;
    uint32_t stages, full, empty;  // in shared memory
    int tile0, column0, range, end_range, u_begin, u_end;

    __device__ HalfPart(const ProductArgs& args, uint8_t* shared) : args(args) {
        stages = (uint32_t)__cvta_generic_to_shared(shared), full = stages + S::AT_BARRIERS, empty = full + 8 * S::COUNT;
        const int n_rank = cluster_size(), rank = blockIdx.x % n_rank;
        // Blocks of the same tiles and other columns come one after the other, so that the second finds the weights in L2.
        const int block = blockIdx.y * (gridDim.x / n_rank) + blockIdx.x / n_rank;
        tile0 = block / gridDim.y * WARPS, column0 = block % gridDim.y * 8 * NT;
        range = rank * WARPS / n_rank, end_range = (rank + 1) * WARPS / n_rank;
        u_begin = range_start<F>(args.n_unit, range), u_end = range_start<F>(args.n_unit, end_range);
    }
    __device__ int n_step() const { return (u_end - u_begin + S::UNITS - 1) / S::UNITS; }
    __device__ int units_of(int step) const { return min(S::UNITS, u_end - u_begin - step * S::UNITS); }
};

template <int F, int NT>
__device__ __forceinline__ void copy_stages(const HalfPart<F, NT>& part) {
    using L = Layout<F>;
    using S = HalfWideStage<F, NT>;
    const ProductArgs& args = part.args;
    const int lane = threadIdx.x & 31, n_all = (args.x.n_col + 7) / 8, n_group = min(n_all - part.column0 / 8, NT);
    // A tile of weights, and a block of activations, a lane.
    const uint8_t* w = args.w + min(part.tile0 + (lane & 7), args.n_tile - 1) * L::tile_bytes(args.n_unit);
    const __half* x = args.x.h + ((2 * part.u_begin + (lane & 7)) * (size_t)n_all + part.column0 / 8) * 256;
    const auto copy_weights_of = [&](int stage, int step) {
        // A quad's tail follows its last unit.
        constexpr bool IS_QUAD = S::UNITS == 4;
        const int n = part.units_of(step), u = part.u_begin + step * S::UNITS;
        if (lane == 0) barrier_expect(part.full + 8 * stage, WARPS * (n * L::UNIT + L::TAIL) + 2 * n * n_group * 512);
        __syncwarp();
        const uint32_t to = part.stages + stage * S::BYTES + (lane & 7) * S::WEIGHTS;
        if (lane < 8) copy_bulk(to, w + L::unit_at(u), n * L::UNIT + (IS_QUAD ? L::TAIL : 0), part.full + 8 * stage);
        if (!IS_QUAD && L::TAIL > 0 && lane >= 8 && lane < 16) copy_bulk(to + S::UNITS * L::UNIT, w + L::tail_at(u), L::TAIL, part.full + 8 * stage);
    };
    const auto copy_act_of = [&](int stage, int step) {
        const uint32_t to = part.stages + stage * S::BYTES + S::AT_ACTIVATIONS + (lane & 7) * NT * 512;
        if (lane < 2 * part.units_of(step))
            copy_bulk(to, x + (size_t)2 * S::UNITS * step * n_all * 256, n_group * 512, part.full + 8 * stage);
    };
    const int n_step = part.n_step(), n_first = min(S::COUNT, n_step);
    for (int s = 0; s < n_first; s++) copy_weights_of(s, s);
    wait_for_previous();
    for (int s = 0; s < n_first; s++) copy_act_of(s, s);
    int stage = 0;
    uint32_t parity = 0;
    for (int step = S::COUNT; step < n_step; step++) {
        barrier_wait(part.empty + 8 * stage, parity);
        copy_weights_of(stage, step);
        copy_act_of(stage, step);
        stage = stage + 1 == S::COUNT ? 0 : stage + 1;
        if (stage == 0) parity ^= 1;
    }
}

template <int F, int NT>
__device__ __forceinline__ void multiply_stages(float (&acc)[4 * NT], const HalfPart<F, NT>& part, const uint8_t* shared) {
    using L = Layout<F>;
    using S = HalfWideStage<F, NT>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_step = part.n_step();
    float total[4 * NT];
    uint32_t a[2][2][4];
    int stage = 0, before = 0, range = part.range;
    uint32_t parity = 0;
    const auto end_range = [&] {
#pragma unroll
        for (int i = 0; i < 4 * NT; i++) {
            total[i] = range == part.range ? acc[i] : __fadd_rn(total[i], acc[i]);
            acc[i] = 0.0f;
        }
        range++;
    };
#pragma unroll 1
    for (int step = 0; step < n_step; step++) {
        const int u = part.u_begin + step * S::UNITS;
        while (range + 1 < part.end_range && range_start<F>(part.args.n_unit, range + 1) <= u) {
            wgmma_wait<0>();
            sums_are_there(acc);
            end_range();
        }
        barrier_wait(part.full + 8 * stage, parity);
        const uint8_t* weights = shared + stage * S::BYTES + warp * S::WEIGHTS;
        const uint32_t act = part.stages + stage * S::BYTES + S::AT_ACTIVATIONS;
        Unit<F> unit;
#pragma unroll
        for (int i = 0; i < 2 * S::UNITS; i++) {
            // Past the end of a row there are weights of 0.
            const bool is_there = L::TAIL > 0 || i / 2 < part.u_end - u;
            if (i % 2 == 0) {
                const uint8_t* at = weights + (is_there ? i / 2 : 0) * L::UNIT;
                read_integers<F, false>(unit, at, lane);
                read_scales<F>(unit, at, weights + S::UNITS * L::UNIT, lane >> 2);
            }
            half_weights<F>(a[i & 1], unit, i & 1);
            if (!is_there)
                for (int j = 0; j < 8; j++) a[i & 1][j >> 2][j & 3] = 0;
            wgmma_block<NT>(acc, a[i & 1], act + (is_there ? i : 0) * NT * 512);
            // The one before is done: its weights' registers are free, and with the first, the stage before.
            wgmma_wait<1>();
            if (i == 0 && lane == 0 && step > 0) barrier_arrive(part.empty + 8 * before);
        }
        before = stage;
        stage = stage + 1 == S::COUNT ? 0 : stage + 1;
        if (stage == 0) parity ^= 1;
    }
    wgmma_wait<0>();
    sums_are_there(acc);
    if (range == part.range) return;
    end_range();
#pragma unroll
    for (int i = 0; i < 4 * NT; i++) acc[i] = total[i];
}

// Adds the ranges of a cluster's blocks, of which each then finishes NT columns; a block alone has the whole sums.
template <int F, int NT>
__device__ __forceinline__ void finish_tiles(const float (&acc)[4 * NT], const HalfPart<F, NT>& part, uint8_t* shared) {
    using S = HalfWideStage<F, NT>;
    constexpr int ROWS = WARPS * 16, LD = 8 * NT + 1, THREADS = WARPS * 32;
    const ProductArgs& args = part.args;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row0 = warp * 16 + (lane >> 2), t = lane & 3;
    const int n_rank = cluster_size(), c0 = blockIdx.x % n_rank * NT, n_column = min(args.x.n_col - part.column0, 8 * NT);
    const Columns columns{nullptr, 1, part.column0, args.x.n_col};
    const float* scales = (const float*)(shared + S::AT_SCALES);
    __syncthreads();
    if (n_rank == 1) {
        float(*sums)[ROWS][LD] = (float(*)[ROWS][LD])shared;
        if (warp < WARPS)
#pragma unroll
            for (int i = 0; i < 4 * NT; i++) sums[0][row0 + (i & 2) * 4][i / 4 * 8 + 2 * t + (i & 1)] = acc[i];
        __syncthreads();
        const Late source{args, columns, 0, part.tile0 * 16, args.bias, scales};
        if (warp < WARPS) finish<-ACT_SHIFT - WEIGHT_SHIFT<F>, 1, ROWS, LD>(args, sums, source, n_column, part.tile0);
        return;
    }
    // [column][row]: what a block reads of another one is in one piece.
    float(*parts)[ROWS] = (float(*)[ROWS])shared;
    float(*mine)[ROWS][NT + 1] = (float(*)[ROWS][NT + 1])(shared + S::AT_MINE);
    if (warp < WARPS)
#pragma unroll
        for (int i = 0; i < 4 * NT; i++) parts[i / 4 * 8 + 2 * t + (i & 1)][row0 + (i & 2) * 4] = acc[i];
    cluster_arrive();
    cluster_wait();
    for (int i = threadIdx.x; i < ROWS / 4 * NT && warp < WARPS; i += THREADS) {
        const int row = i % (ROWS / 4) * 4, c = i / (ROWS / 4);
        float4 from[WARPS];
#pragma unroll
        for (int r = 0; r < WARPS; r++) from[r] = load_from((const float4*)&parts[c0 + c][row], r);
        float4 y = from[0];
#pragma unroll
        for (int r = 1; r < WARPS; r++)
            y = make_float4(__fadd_rn(y.x, from[r].x), __fadd_rn(y.y, from[r].y), __fadd_rn(y.z, from[r].z), __fadd_rn(y.w, from[r].w));
        mine[0][row][c] = y.x, mine[0][row + 1][c] = y.y, mine[0][row + 2][c] = y.z, mine[0][row + 3][c] = y.w;
    }
    cluster_join();
    __syncthreads();
    const Late source{args, columns, c0, part.tile0 * 16, args.bias, scales};
    if (n_column > c0 && warp < WARPS) finish<-ACT_SHIFT - WEIGHT_SHIFT<F>, 1, ROWS, NT + 1>(args, mine, source, min(n_column - c0, NT), part.tile0);
    cluster_wait();
}

template <int F, int NT>
__device__ __forceinline__ void product_half_wide(const ProductArgs& args) {
    using S = HalfWideStage<F, NT>;
    extern __shared__ __align__(128) uint8_t shared[];
    let_next_start();
    const HalfPart<F, NT> part(args, shared);
    if (threadIdx.x == 0) {
        for (int s = 0; s < S::COUNT; s++) {
            barrier_init(part.full + 8 * s, 1);
            barrier_init(part.empty + 8 * s, WARPS);
        }
        barriers_visible();
    }
    __syncthreads();
    float acc[4 * NT] = {};
    if (threadIdx.x / 32 == WARPS) {
        copy_stages<F, NT>(part);
    } else {
        wait_for_previous();
        const Columns columns{nullptr, 1, part.column0, args.x.n_col};
        if (args.squares) store_scales<8 * NT>(args, columns, (float*)(shared + S::AT_SCALES));
        multiply_stages<F, NT>(acc, part, shared);
    }
    finish_tiles<F, NT>(acc, part, shared);
}
#else
// Never launched: the host asks for these kernels on Hopper alone.
template <int F, int NT>
__device__ __forceinline__ void product_half_wide(const ProductArgs&) {
    __trap();
}
#endif
