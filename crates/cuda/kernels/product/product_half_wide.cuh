// Products in float16 for more columns, on wgmma with the weights as operand A from registers: for sm_90a.
//
// A block computes W tiles of 16 rows for 8 NT columns, a warp one of the tiles. The four warps of a warpgroup share what is read of the
// activations. One more warp keeps stages of some units on their way to shared memory with the copy engine: a barrier `full` a stage counts the
// bytes that arrived, a barrier `empty` the warps that have read them. A block takes all ranges one after the other, of 8 tiles or, where there
// are enough rows, of 16, so that half as many blocks read the activations; or 8 or 4 blocks of 8 tiles form a cluster, of one range or two
// each, and each of them adds and finishes its share of the columns.
#pragma once

#include "product/product_half.cuh"

template <int F, int NT, int W>
struct HalfWideStage {
    using L = Layout<F>;
    static constexpr int ROOM = (W == WARPS ? 104 : 208) << 10;  // two blocks a multiprocessor, or one
    // Of many columns the sums want registers that copying warps have: four of those are a warpgroup, which gives its own away. One alone would
    // also be too slow for so many copies.
    static constexpr bool LENDS = NT >= 4;
    static constexpr int N_COPY = LENDS ? 4 : 1;
    static constexpr int THREADS = 32 * (W + N_COPY);
    // Registers of a thread that multiplies and of one that does not; the launch bounds give 80, or 96, to all.
    static constexpr int REGISTERS = W == WARPS ? 104 : 112, LEFT = 32;
    static_assert(32 * (W * REGISTERS + 4 * LEFT) <= 32 * (W + 4) * (W == WARPS ? 80 : 96), "what is not there is waited for for ever");
    // Four, or where two stages of so many have no room, two; of weights of 16 bits, one.
    static constexpr int UNITS = L::FLOAT ? 1 : 2 * (W * (4 * L::UNIT + L::TAIL) + 8 * NT * 512) <= ROOM ? 4 : 2;
    static constexpr int WEIGHTS = UNITS * L::UNIT + L::TAIL;  // of a tile
    static constexpr int AT_ACTIVATIONS = W * WEIGHTS;         // [block of 32][8 columns that there are][part][column][8]
    static constexpr int BYTES = AT_ACTIVATIONS + UNITS * 2 * NT * 512;
    static constexpr int COUNT = ROOM / BYTES < 8 ? ROOM / BYTES : 8;
    static_assert(COUNT >= 2, "a stage is given back when the next one is there");
    // Dynamic shared memory: the stages, whose place the sums take, or of a cluster's block those of two ranges and what it finishes; the
    // columns' scales; the barriers.
    static constexpr int LD_MINE = 2 * NT + 1;
    static constexpr int AT_MINE = 2 * W * 16 * 8 * NT * 4;
    static constexpr int SUMS = W == WARPS ? AT_MINE + W * 16 * LD_MINE * 4 : W * 16 * (8 * NT + 1) * 4;
    static constexpr int AT_SCALES = COUNT * BYTES > SUMS ? COUNT * BYTES : SUMS;
    static constexpr int AT_BARRIERS = AT_SCALES + 8 * NT * 4;
    static constexpr int SHARED = AT_BARRIERS + COUNT * 16;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#include "sm90.cuh"

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
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" SUMS_32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
                     : THIRTY_TWO(c, 0)
                     : WEIGHTS_AND_COLUMNS(a, b));
}

// Activations are core matrices of 8 columns and 8 values: 128 bytes to the next values, 512 to the next columns. The lower half of their
// descriptor, the same in all lanes; the upper half says 512 bytes.
__device__ __forceinline__ uint32_t act_descriptor(uint32_t act) { return (act & 0x3FFFF) >> 4 | (128 >> 4) << 16; }

// A block of 32.
template <int NT>
__device__ __forceinline__ void wgmma_block(float (&c)[4 * NT], const uint32_t (&a)[2][4], uint32_t act) {
    constexpr uint64_t UPPER = (uint64_t)(512 >> 4) << 32;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    wgmma_step<NT>(c, a[0], UPPER | act);
    wgmma_step<NT>(c, a[1], UPPER | (act + (256 >> 4)));
    wgmma_commit();
}

// What the copying warp and the multiplying ones agree on.
template <int F, int NT, int W>
struct HalfPart {
    using S = HalfWideStage<F, NT, W>;
    const ProductArgs& args;
    uint32_t stages, full, empty;  // in shared memory
    int tile0, column0, range, end_range, u_begin, u_end;
    int n_group;            // of 8 columns
    int n_rank, c0, n_own;  // blocks that share the width; the columns that this block finishes, after the first c0
    int group;              // of such blocks, among all of the launch

    // Blocks of W tiles before `first_block` are another matrix's.
    __device__ HalfPart(const ProductArgs& args, uint8_t* shared, int first_block) : args(args) {
        stages = (uint32_t)__cvta_generic_to_shared(shared);
        // What it is known to be would be computed again and again.
        asm volatile("" : "+r"(stages));
        full = stages + S::AT_BARRIERS, empty = full + 8 * S::COUNT;
        n_rank = is_split() ? args.n_part : W == WARPS ? cluster_size() : 1;
        const int rank = blockIdx.x % n_rank;
        // Blocks of the same tiles and other columns come one after the other, so that the second finds the weights in L2.
        group = blockIdx.y * (gridDim.x / n_rank) + blockIdx.x / n_rank;
        tile0 = (group / gridDim.y - first_block) * W, column0 = group % gridDim.y * 8 * NT;
        n_group = min((args.x.n_col + 7) / 8 - column0 / 8, NT);
        n_own = 8 * NT / n_rank, c0 = rank * n_own;
        range = rank * WARPS / n_rank, end_range = (rank + 1) * WARPS / n_rank;
        u_begin = range_start<F>(args.n_unit, range), u_end = range_start<F>(args.n_unit, end_range);
    }
    // Whether they hand each other their sums through memory, not as a cluster.
    __device__ bool is_split() const { return args.n_part > 0; }
    __device__ bool is_cluster() const { return n_rank > 1 && !is_split(); }
    __device__ int n_step() const { return (u_end - u_begin + S::UNITS - 1) / S::UNITS; }
    __device__ int units_of(int step) const { return min(S::UNITS, u_end - u_begin - step * S::UNITS); }
};

// A copying warp has its share of the tiles and of the blocks of activations.
template <int F, int NT, int W>
__device__ __forceinline__ void copy_stages(const HalfPart<F, NT, W>& part, uint32_t shared, int copier) {
    using L = Layout<F>;
    using S = HalfWideStage<F, NT, W>;
    constexpr int TILES = W / S::N_COPY;
    constexpr bool IS_QUAD = S::UNITS == 4;  // whose tail follows its last unit
    const ProductArgs& args = part.args;
    const int lane = threadIdx.x & 31, n_all = (args.x.n_col + 7) / 8, first = part.tile0 + copier * TILES;
    // A block of activations of these columns, and of all.
    const int act_bytes = part.n_group * 512, act_stride = n_all * 512;
    const uint64_t tile_bytes = L::tile_bytes(args.n_unit);
    const int n_more = args.n_tile - 1 - first;  // tiles after the first
    const uint8_t* w = args.w + min(first + (S::LENDS ? 0 : lane % W), args.n_tile - 1) * tile_bytes;
    const uint8_t* x = (const uint8_t*)args.x.h + 2 * part.u_begin * (uint64_t)act_stride + part.column0 / 8 * 512;
    const uint32_t full = shared + S::AT_BARRIERS;
    const auto copy_weights_of = [&](int stage, int step) {
        const int n = part.units_of(step), u = part.u_begin + step * S::UNITS, n_byte = n * L::UNIT + (IS_QUAD ? L::TAIL : 0);
        const uint32_t to = shared + stage * S::BYTES + copier * TILES * S::WEIGHTS, arrived = full + 8 * stage;
        const int expected = W * (n * L::UNIT + L::TAIL) + 2 * n * act_bytes;
        if constexpr (S::LENDS) {
            if (elected()) {
                // Of all copying warps: bytes of the others may arrive before.
                if (copier == 0) barrier_expect(arrived, expected);
                const uint8_t* tile = w;
#pragma unroll
                for (int i = 0; i < TILES; i++) {
                    copy_bulk(to + i * S::WEIGHTS, tile + L::unit_at(u), n_byte, arrived);
                    if (!IS_QUAD && L::TAIL > 0) copy_bulk(to + i * S::WEIGHTS + S::UNITS * L::UNIT, tile + L::tail_at(u), L::TAIL, arrived);
                    tile += i < n_more ? tile_bytes : 0;
                }
            }
        } else {
            // A lane a tile: of so few copies this is no slower.
            if (lane == 0) barrier_expect(arrived, expected);
            __syncwarp();
            if (lane < W) copy_bulk(to + lane * S::WEIGHTS, w + L::unit_at(u), n_byte, arrived);
            if (!IS_QUAD && L::TAIL > 0 && lane >= W && lane < 2 * W)
                copy_bulk(to + lane % W * S::WEIGHTS + S::UNITS * L::UNIT, w + L::tail_at(u), L::TAIL, arrived);
        }
        __syncwarp();
    };
    const auto copy_act_of = [&](int stage, int step) {
        const int n = 2 * part.units_of(step), begin = n * copier / S::N_COPY, end = n * (copier + 1) / S::N_COPY;
        const uint32_t to = shared + stage * S::BYTES + S::AT_ACTIVATIONS, arrived = full + 8 * stage;
        const uint8_t* from = x + 2 * S::UNITS * step * (uint64_t)act_stride;
        if (begin < end && elected()) {
            // In one piece, if these columns are all.
            if (act_stride == act_bytes) {
                copy_bulk(to + begin * act_bytes, from + begin * act_bytes, (end - begin) * act_bytes, arrived);
            } else {
#pragma unroll 4
                for (int i = begin; i < end; i++) copy_bulk(to + i * act_bytes, from + i * act_stride, act_bytes, arrived);
            }
        }
        __syncwarp();
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

// Whether the faster of two ways to unpack does for all weights of the block, where there are two. What it reads is on its way to the second
// level cache anyway.
template <int F, int NT, int W>
__device__ __forceinline__ bool all_fast(const HalfPart<F, NT, W>& part) {
    using L = Layout<F>;
    if constexpr (!HAS_FAST<F>) {
        return true;
    } else {
        const int lane = threadIdx.x & 31;
        const uint8_t* tile = part.args.w + min(part.tile0 + (int)threadIdx.x / 32, part.args.n_tile - 1) * L::tile_bytes(part.args.n_unit);
        bool fast = true;
#pragma unroll 4
        for (int u = part.u_begin + lane / 8 * 4; u < part.u_end; u += 16) fast &= is_fast<F>(nullptr, tile + L::tail_at(u), 4, lane & 7);
        uint32_t all;
        asm volatile("{ .reg .pred p, q; setp.ne.b32 p, %1, 0; barrier.cta.red.and.pred.aligned q, 1, %2, p; selp.b32 %0, 1, 0, q; }"
                     : "=r"(all)
                     : "r"((uint32_t)fast), "n"(W * 32)
                     : "memory");
        return all != 0;
    }
}

// The sums of the last range to `acc`, those of the ones before, if there are any, to `total`.
template <int F, int NT, int W, bool FAST>
__device__ __forceinline__ void multiply_stages(float (&acc)[4 * NT], float (&total)[4 * NT], const HalfPart<F, NT, W>& part) {
    using L = Layout<F>;
    using S = HalfWideStage<F, NT, W>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_step = part.n_step();
    const uint32_t act_stride = part.n_group * (512 >> 4);  // as descriptors count
    uint32_t a[2][2][4];
    int stage = 0, before = 0, range = part.range, next_range = range_start<F>(part.args.n_unit, range + 1);
    uint32_t parity = 0;
    const auto end_range = [&] {
#pragma unroll
        for (int i = 0; i < 4 * NT; i++) {
            total[i] = range == part.range ? acc[i] : __fadd_rn(total[i], acc[i]);
            acc[i] = 0.0f;
        }
        range++;
        next_range = range_start<F>(part.args.n_unit, range + 1);
    };
#pragma unroll 1
    for (int step = 0; step < n_step; step++) {
        const int u = part.u_begin + step * S::UNITS;
        while (range + 1 < part.end_range && next_range <= u) {
            wgmma_wait<0>();
            sums_are_there(acc);
            end_range();
        }
        barrier_wait(part.full + 8 * stage, parity);
        const uint32_t at = part.stages + stage * S::BYTES;
        const uint8_t* weights = (const uint8_t*)__cvta_shared_to_generic(at + warp * S::WEIGHTS);
        const uint32_t act = __shfl_sync(~0u, act_descriptor(at + S::AT_ACTIVATIONS), 0);
        Unit<F> unit[2];
        const auto read = [&](int j) {
            const uint8_t* from = weights + (L::TAIL > 0 || j < part.u_end - u ? j : 0) * L::UNIT;
            read_integers<F, false>(unit[j & 1], from, lane);
            read_scales<F>(unit[j & 1], from, weights + S::UNITS * L::UNIT, lane >> 2);
        };
#pragma unroll
        for (int i = 0; i < 2 * S::UNITS; i++) {
            // Past the end of a row there are weights of 0.
            const bool is_there = L::TAIL > 0 || i / 2 < part.u_end - u;
            // The next unit is on its way while this one's second block is unpacked.
            if (i == 0) read(0);
            if (i % 2 == 1 && i + 1 < 2 * S::UNITS) read(i / 2 + 1);
            if constexpr (FAST) half_weights_fast<F>(a[i & 1], unit[i / 2 & 1], i & 1);
            else half_weights<F>(a[i & 1], unit[i / 2 & 1], i & 1);
            if (!is_there)
                for (int j = 0; j < 8; j++) a[i & 1][j >> 2][j & 3] = 0;
            // Columns that there are not are the next block's; their sums are nobody's.
            wgmma_block<NT>(acc, a[i & 1], act + (is_there ? i : 0) * act_stride);
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
    while (range + 1 < part.end_range) end_range();
}

// Barriers of the block's warps: the multiplying ones alone, or all, of which the others only arrive.
template <int W>
__device__ __forceinline__ void multiplying_warps() {
    asm volatile("barrier.cta.sync.aligned 1, %0;" ::"n"(W * 32) : "memory");
}
template <int THREADS>
__device__ __forceinline__ void sums_begin() {
    asm volatile("barrier.cta.sync.aligned 2, %0;" ::"n"(THREADS) : "memory");
}
template <int THREADS>
__device__ __forceinline__ void sums_may_begin() {
    asm volatile("barrier.cta.arrive.aligned 2, %0;" ::"n"(THREADS) : "memory");
}

// Waits until all blocks of a group have stored their sums, each of which counts for so many of eight. The count goes on for ever: it is a
// multiple of eight before every launch. All of them run at once: the host launches no more than have room.
template <int W>
__device__ __forceinline__ void all_stored(uint32_t* n_stored, uint32_t n_own) {
    multiplying_warps<W>();
    if (threadIdx.x == 0) {
        uint32_t n;
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
        asm volatile("atom.add.relaxed.gpu.global.u32 %0, [%1], %2;" : "=r"(n) : "l"(n_stored), "r"(n_own) : "memory");
        const uint32_t wanted = (n / WARPS + 1) * WARPS;
        for (n += n_own; (int32_t)(n - wanted) < 0;) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(n) : "l"(n_stored) : "memory");
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
    }
    multiplying_warps<W>();
}

__device__ __forceinline__ float4 sum_in_order(const float4 (&from)[WARPS]) {
    float4 y = from[0];
#pragma unroll
    for (int r = 1; r < WARPS; r++)
        y = make_float4(__fadd_rn(y.x, from[r].x), __fadd_rn(y.y, from[r].y), __fadd_rn(y.z, from[r].z), __fadd_rn(y.w, from[r].w));
    return y;
}

// Adds the ranges, of a cluster those of all its blocks, of which each then finishes its columns.
template <int F, int NT, int W>
__device__ __forceinline__ void finish_tiles(const float (&acc)[4 * NT], const float (&total)[4 * NT], const HalfPart<F, NT, W>& part,
                                             uint8_t* shared) {
    using S = HalfWideStage<F, NT, W>;
    constexpr int ROWS = W * 16, LD = 8 * NT + 1, SHIFT = -ACT_SHIFT - WEIGHT_SHIFT<F>;
    const ProductArgs& args = part.args;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row0 = warp * 16 + (lane >> 2), t = lane & 3;
    const int c0 = part.c0, n_column = min(args.x.n_col - part.column0 - c0, part.n_own);
    const Columns columns{nullptr, 1, part.column0, args.x.n_col};
    const float* scales = (const float*)(shared + S::AT_SCALES);
    sums_begin<S::THREADS>();
    if (part.n_rank == 1) {
        float(*sums)[ROWS][LD] = (float(*)[ROWS][LD])shared;
#pragma unroll
        for (int i = 0; i < 4 * NT; i++) sums[0][row0 + (i & 2) * 4][i / 4 * 8 + 2 * t + (i & 1)] = __fadd_rn(total[i], acc[i]);
        multiplying_warps<W>();
        const Late<F> source{args, columns, 0, part.tile0 * 16, args.bias, scales, args.w};
        finish<SHIFT, 1, ROWS, LD, false, W>(args, sums, source, n_column, part.tile0);
        return;
    }
    const bool has_two = part.n_rank < WARPS;
    if (part.is_split()) {
        float* stored = args.parts + (size_t)part.group * WARPS * 8 * NT * ROWS;
        float* own = stored + (size_t)part.range * 8 * NT * ROWS;
#pragma unroll
        for (int i = 0; i < 4 * NT; i++) {
            const int at = (i / 4 * 8 + 2 * t + (i & 1)) * ROWS + row0 + (i & 2) * 4;
            own[at] = has_two ? total[i] : acc[i];
            if (has_two) own[8 * NT * ROWS + at] = acc[i];
        }
        all_stored<W>(args.n_stored + part.group, WARPS / part.n_rank);
        float(*mine)[ROWS][S::LD_MINE] = (float(*)[ROWS][S::LD_MINE])shared;
        for (int i = threadIdx.x; i < ROWS / 4 * part.n_own; i += W * 32) {
            const int row = i % (ROWS / 4) * 4, c = i / (ROWS / 4);
            float4 from[WARPS];
#pragma unroll
            for (int r = 0; r < WARPS; r++) from[r] = __ldcg((const float4*)&stored[(r * 8 * NT + c0 + c) * ROWS + row]);
            const float4 y = sum_in_order(from);
            mine[0][row][c] = y.x, mine[0][row + 1][c] = y.y, mine[0][row + 2][c] = y.z, mine[0][row + 3][c] = y.w;
        }
        multiplying_warps<W>();
        const Late<F> source{args, columns, c0, part.tile0 * 16, args.bias, scales, args.w};
        if (n_column > 0) finish<SHIFT, 1, ROWS, S::LD_MINE, false, W>(args, mine, source, n_column, part.tile0);
        return;
    }
    if constexpr (W == WARPS) {
        // [range][column][row]: what a block reads of another one is in one piece.
        float(*parts)[8 * NT][ROWS] = (float(*)[8 * NT][ROWS])shared;
        float(*mine)[ROWS][S::LD_MINE] = (float(*)[ROWS][S::LD_MINE])(shared + S::AT_MINE);
#pragma unroll
        for (int i = 0; i < 4 * NT; i++) {
            const int column = i / 4 * 8 + 2 * t + (i & 1), row = row0 + (i & 2) * 4;
            parts[0][column][row] = has_two ? total[i] : acc[i];
            if (has_two) parts[1][column][row] = acc[i];
        }
        cluster_arrive();
        cluster_wait();
        for (int i = threadIdx.x; i < ROWS / 4 * part.n_own; i += W * 32) {
            const int row = i % (ROWS / 4) * 4, c = i / (ROWS / 4);
            float4 from[WARPS];
#pragma unroll
            for (int r = 0; r < WARPS; r++) from[r] = load_from((const float4*)&parts[has_two ? r & 1 : 0][c0 + c][row], has_two ? r >> 1 : r);
            const float4 y = sum_in_order(from);
            mine[0][row][c] = y.x, mine[0][row + 1][c] = y.y, mine[0][row + 2][c] = y.z, mine[0][row + 3][c] = y.w;
        }
        cluster_join();
        multiplying_warps<W>();
        const Late<F> source{args, columns, c0, part.tile0 * 16, args.bias, scales, args.w};
        if (n_column > 0) finish<SHIFT, 1, ROWS, S::LD_MINE, false, W>(args, mine, source, n_column, part.tile0);
        cluster_wait();
    }
}

// The scales of the columns that the block finishes, by the warps that multiply, while the first activations are on their way.
template <int F, int NT, int W>
__device__ __forceinline__ void store_own_scales(const HalfPart<F, NT, W>& part, uint8_t* shared) {
    using S = HalfWideStage<F, NT, W>;
    const int first = part.column0 + part.c0;
    const Columns own{nullptr, 1, first, min(part.args.x.n_col, first + part.n_own)};
    float* scales = (float*)(shared + S::AT_SCALES) + part.c0;
    if (part.n_rank == 1) store_scales<8 * NT, W>(part.args, own, scales);
    else if (part.n_rank == WARPS) store_scales<NT, W>(part.args, own, scales);
    else store_scales<2 * NT, W>(part.args, own, scales);
}

template <int F, int NT, int W = WARPS>
__device__ __forceinline__ void product_half_wide(const ProductArgs& args, int first_block = 0) {
    using S = HalfWideStage<F, NT, W>;
    extern __shared__ __align__(128) uint8_t shared[];
    let_next_start();
    const HalfPart<F, NT, W> part(args, shared, first_block);
    if (threadIdx.x == 0) {
        for (int s = 0; s < S::COUNT; s++) {
            barrier_init(part.full + 8 * s, 1);
            barrier_init(part.empty + 8 * s, W);
        }
        barriers_visible();
    }
    __syncthreads();
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    if (warp >= W) {
        if constexpr (S::LENDS) registers_down_to<S::LEFT>();
        copy_stages<F, NT, W>(part, (uint32_t)__cvta_generic_to_shared(shared), warp - W);
        sums_may_begin<S::THREADS>();
        if (part.is_cluster()) {
            cluster_arrive();
            cluster_wait();
            cluster_join();
            cluster_wait();
        }
    } else {
        if constexpr (S::LENDS) registers_up_to<S::REGISTERS>();
        const bool fast = all_fast<F, NT, W>(part);
        wait_for_previous();
        if (args.squares) store_own_scales<F, NT, W>(part, shared);
        float acc[4 * NT] = {}, total[4 * NT] = {};
        if (HAS_FAST<F> && fast) multiply_stages<F, NT, W, HAS_FAST<F>>(acc, total, part);
        else multiply_stages<F, NT, W, false>(acc, total, part);
        finish_tiles<F, NT, W>(acc, total, part, shared);
    }
}
#else
// Never launched: the host asks for these kernels on Hopper alone.
template <int F, int NT, int W = WARPS>
__device__ __forceinline__ void product_half_wide(const ProductArgs&, int = 0) {
    __trap();
}
#endif
