// The products of prompt rows with weights that are unpacked in registers, on wgmma, for sm_90a: operand A is 64 rows of weights, operand B
// rows of activations.
//
// prompt_gemm_wgmma.cuh reads weights that unpack.cu wrote as float16: for few rows that costs more memory traffic than the product has. Here
// each weight is unpacked once for up to 128 rows of activations. The bits are the same: the weights' values, rounded to float16 likewise, one
// chain of k16 steps in ascending order of k for an element. Within a step of 16 the order of k is another one, for the weights' layout's sake:
// even columns, then odd ones (seen to change nothing, not documented). So activations lie in that order (`even_then_odd`).
//
// A tile is 64 rows of weights a warpgroup, of which there are three, two or one, by up to 128 rows of activations, or 64. Two warps copy
// operands to shared memory, one weights, one activations. They run ahead of the products, into the next tile. Weights come in pieces of some
// units, as the copy engine takes its time for each piece.
#pragma once

#include "product/product_half.cuh"
#include "prompt/prompt_gemm.cuh"
#include "sm90.cuh"

struct PromptPackedArgs {
    TensorMap a_map;   // f16 [rows the buffer holds, k] from `a`: box [64, 64], 128-byte swizzle, zeros outside
    PromptGemmArgs g;  // `w`, `w_k` and `low` are not read; gated: 32 gates, 32 ups, ... in W's tiles
    const uint8_t* w;  // the first expert's first tile
    uint64_t stride;   // from an expert to the next, bytes
    int32_t n_unit;
    int32_t n_tile;    // of an expert
    int32_t head_dim;  // store: 0, or W's tiles have heads whose pairs stand apart (unpack.cu), to be stored in their natural order
    int32_t half_rot;
    int32_t adjacent;
    // 1: the kernel before this one is another product of this file, which reads the same and has waited for that before it let this one start.
    // Then this one runs beside it, and only ends after it.
    int32_t beside;
    uint64_t reserved[5];
};
static_assert(sizeof(PromptPackedArgs) == 320, "as in src/launch/prompt_packed.rs");

// Shared memory: activations in stages of two units, weights in stages of up to four, the sums that warpgroups hand over, barriers.
template <int F, int GROUPS_>
struct PackedStage {
    using L = Layout<F>;
    static constexpr int GROUPS = GROUPS_, BW = 64 * GROUPS, TILES = BW / 16;
    static constexpr int BN = GROUPS > 1 ? 128 : 64;
    // Two warps copy. Beside three warpgroups that compute they are in a fourth, which gives registers away.
    static constexpr bool LENDS = GROUPS == 3;
    static constexpr int THREADS = 128 * GROUPS + (LENDS ? 128 : 64), BLOCKS = GROUPS > 1 ? 1 : 3;
    static constexpr int UNITS = L::UNIT > 1024 && L::TAIL == 0 ? 2 : 4;  // of a stage of weights; a quad with its tail
    static constexpr int TILE = UNITS * L::UNIT + L::TAIL;
    static constexpr int ACTIVATIONS = 2 * BN * 128, WEIGHTS = TILES * TILE;
    // A warpgroup's sums of CHUNK rows of activations.
    static constexpr int CHUNK = 32, LD = 64 + 4, SUMS = GROUPS * CHUNK * LD * 4;
    static constexpr int ROOM = (228 << 10) / BLOCKS - 1024 - 1024 - 256 - SUMS;
    static constexpr int N_WEIGHTS = 3 * WEIGHTS + 2 * ACTIVATIONS <= ROOM ? 3 : 2;
    static constexpr int MOST = (ROOM - N_WEIGHTS * WEIGHTS) / ACTIVATIONS, N_ACTIVATIONS = MOST < 6 ? MOST : 6;
    static constexpr int AT_WEIGHTS = N_ACTIVATIONS * ACTIVATIONS, AT_SUMS = AT_WEIGHTS + N_WEIGHTS * WEIGHTS;
    static constexpr int AT_BARRIERS = AT_SUMS + SUMS;  // of activations full, empty; of weights full, empty
    static constexpr int SHARED = AT_BARRIERS + 16 * (N_ACTIVATIONS + N_WEIGHTS) + 1024;
    static_assert(N_ACTIVATIONS >= 2 && (SHARED + 1024) * BLOCKS <= 228 << 10, "stages");
};

// One of a ring's stages and how often it was used, as a barrier's phase.
template <int COUNT>
struct PackedRing {
    uint32_t full, empty;
    int stage = 0;
    uint32_t phase = 0;

    __device__ explicit PackedRing(uint32_t barriers) : full(barriers), empty(barriers + 8 * COUNT) {}
    __device__ void next() {
        if (++stage == COUNT) stage = 0, phase ^= 1;
    }
    __device__ uint32_t arrived() const { return full + 8 * stage; }
    __device__ void wait_full() const { barrier_wait(full + 8 * stage, phase); }
    __device__ void wait_empty() const { barrier_wait(empty + 8 * stage, phase ^ 1); }
};

// The weights of unpack.cu, computed as there, as `half_weights` gives them to a lane; `tile_scale` is read where a format has one.
template <int F>
__device__ __forceinline__ void float32_weights(uint32_t (&a)[2][4], const Unit<F>& unit, int kb, float tile_scale) {
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float4 v = weights<F>(unit, kb, r, h);
            if constexpr (Layout<F>::TILE_SCALE > 0) v = make_float4(v.x * tile_scale, v.y * tile_scale, v.z * tile_scale, v.w * tile_scale);
            a[h][r] = bits_of(__floats2half2_rn(v.x, v.z)), a[h][r + 2] = bits_of(__floats2half2_rn(v.y, v.w));
        }
}

// The same with fewer instructions for most formats; `tile_scale` is read where a format has one.
template <int F>
__device__ __forceinline__ void prompt_weights(uint32_t (&a)[2][4], const Unit<F>& unit, int kb, float tile_scale) {
    using L = Layout<F>;
    if constexpr (F == MXFP4) {
        // As `mxfp4_weights`; what a scale has above 2 in a second step, which is exact, and which hardly a model needs. (Scales of 2^17 and more,
        // with which unpack.cu gives infinities, count as 2^16 here.)
        const uint32_t e = __byte_perm(unit.scales.x, 0, kb == 0 ? 0x4240 : 0x4341);
        const __half2 first = halves_of((__vminu2(__vmaxu2(e, 98 * 0x10001u), 128 * 0x10001u) - 98 * 0x10001u) * 1024);
        e2m1_weights(a, unit, kb, [&](int r, int) { return r == 0 ? __low2half2(first) : __high2half2(first); });
        if (__any_sync(~0u, (unit.scales.x & 0x80808080u) != 0)) {
            const __half2 second = halves_of((__vminu2(__vmaxu2(e, 128 * 0x10001u), 143 * 0x10001u) - 113 * 0x10001u) * 1024);
#pragma unroll
            for (int i = 0; i < 8; i++)
                a[i >> 2][i & 3] = bits_of(__hmul2_rn(halves_of(a[i >> 2][i & 3]), (i & 1) == 0 ? __low2half2(second) : __high2half2(second)));
        }
    } else if constexpr (F == Q8_0 || F == Q4_0 || F == Q5_0 || F == F16 || F == BF16) {
        // Products of one float16 and a small integer, which both round once.
        half_weights<F>(a, unit, kb);
        if constexpr (F == F16) {
            // Else the compiler multiplies what was read from shared memory in its place, and orders the instructions for that anew.
#pragma unroll
            for (int i = 0; i < 8; i++) asm volatile("" : "+r"(a[i >> 2][i & 3]));
        }
    } else if constexpr (L::NIBBLES && !L::TABLE) {
        // A pair's integers are float16 as they stand, q 2^-24 or, of the upper nibbles, q 2^-20. An offset counts as a minimum: the sum is exact
        // before it is rounded.
        constexpr float OFFSET = L::TWO_BITS ? 32.0f : 0.0f;
        static_assert(L::HAS_MIN || F == Q6_K, "others take the way above");
        const auto moved = [](uint32_t w, int by) { return by >= 0 ? w >> by : w << -by; };
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float2 s = scale_of<F>(unit, kb, r, h);
                const float by = s.x * (h == 0 ? 0x1p24f : 0x1p20f), added = L::HAS_MIN ? s.y : -OFFSET * s.x;
#pragma unroll
                for (int p = 0; p < 2; p++) {
                    uint32_t q = nibbles_of<F>(unit, kb, r) >> 8 * p & (h == 0 ? 0x000F000Fu : 0x00F000F0u);
                    const int to = h == 0 ? 4 : 8;
                    if constexpr (L::TWO_BITS)
                        q |= moved(kb == 0 ? unit.two_bits.x : unit.two_bits.y, 8 * p + 4 * r + 2 * h - to) & (h == 0 ? 0x00300030u : 0x03000300u);
                    if constexpr (L::ONE_BIT)
                        q |= moved(unit.one_bit, 8 * p + 4 * kb + 2 * r + h - to) & (h == 0 ? 0x00100010u : 0x01000100u);
                    const float2 v = __half22float2(halves_of(q));
                    a[h][r + 2 * p] = bits_of(__floats2half2_rn(__fmaf_rn(by, v.x, added), __fmaf_rn(by, v.y, added)));
                }
            }
    } else {
        float32_weights<F>(a, unit, kb, tile_scale);
    }
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
template <int F, int G>
__device__ __forceinline__ void copy_packed_weights(const PromptPackedArgs& args, uint32_t base) {
    using L = Layout<F>;
    using S = PackedStage<F, G>;
    const int lane = threadIdx.x & 31, n_unit = args.n_unit;
    PackedRing<S::N_WEIGHTS> ring(base + S::AT_BARRIERS + 16 * S::N_ACTIVATIONS);
    PromptTiles<S::BN, S::BW> tiles(args.g, blockIdx.x, gridDim.x);
    PromptTile tile;
    while (tiles.next(tile)) {
        const int at = min((tile.col >> 4) + lane % S::TILES, args.n_tile - 1);
        const uint8_t* w = args.w + tile.expert * args.stride + at * L::tile_bytes(n_unit);
        for (int u = 0; u < n_unit; u += S::UNITS) {
            const int bytes = min(S::UNITS, n_unit - u) * L::UNIT + L::TAIL;
            ring.wait_empty();
            if (lane == 0) barrier_expect(ring.arrived(), S::TILES * bytes);
            __syncwarp();
            if (lane < S::TILES)
                copy_bulk(base + S::AT_WEIGHTS + ring.stage * S::WEIGHTS + lane * S::TILE, w + L::unit_at(u), bytes, ring.arrived());
            ring.next();
        }
    }
}

template <int F, int G>
__device__ __forceinline__ void copy_packed_activations(const PromptPackedArgs& args, uint32_t base) {
    using S = PackedStage<F, G>;
    const int lane = threadIdx.x & 31, n_unit = args.n_unit;
    PackedRing<S::N_ACTIVATIONS> ring(base + S::AT_BARRIERS);
    PromptTiles<S::BN, S::BW> tiles(args.g, blockIdx.x, gridDim.x);
    PromptTile tile;
    while (tiles.next(tile)) {
        const int n_box = min((tile.row_end - tile.row + 63) >> 6, S::BN / 64), j = lane % (S::BN / 64), unit = lane / (S::BN / 64);
        for (int u = 0; u < n_unit; u += 2) {
            const int n = min(2, n_unit - u);
            ring.wait_empty();
            if (lane == 0) barrier_expect(ring.arrived(), n * n_box * 8192);
            __syncwarp();
            if (unit < n && j < n_box)
                copy_box(base + ring.stage * S::ACTIVATIONS + (unit * (S::BN / 64) + j) * 8192, &args.a_map, (u + unit) * 64, tile.row + j * 64,
                         ring.arrived());
            ring.next();
        }
    }
}

__device__ __forceinline__ void warpgroup_synchronise(int warpgroup) {
    switch (warpgroup) {
        case 0: asm volatile("bar.sync 1, 128;" ::: "memory"); break;
        case 1: asm volatile("bar.sync 2, 128;" ::: "memory"); break;
        default: asm volatile("bar.sync 3, 128;" ::: "memory");
    }
}

// Which of 64 rows of weights, from `first` on in W's tiles, four results that follow each other are of, and the first result's column. The pairs
// of heads that turn together stand in a tile's rows g and g + 8.
__device__ __forceinline__ int natural_column(const PromptPackedArgs& args, int first, int n, int (&rows)[4]) {
    const int within = (first + n) % args.head_dim, from = within >> 4 << 3;
    const bool turns = from < args.half_rot;
#pragma unroll
    for (int k = 0; k < 4; k++) rows[k] = turns && args.adjacent ? (n & ~15) + (n & 15) / 2 + (k >> 1) + 8 * (k & 1) : n + k;
    if (!turns || args.adjacent) return first + n;
    return first + n - within + from + (n & 7) + (n >> 3 & 1) * args.half_rot;
}

// The sums of 64 rows of weights and CHUNK of activations, from [row of activations][row of weights], to where they belong.
template <PromptEpilogue E, int CHUNK, int LD>
__device__ __forceinline__ void finish_packed(const PromptPackedArgs& args, const PromptTile& tile, int col, int first, const float* sums) {
    static_assert(E != PROMPT_PLAIN, "epilogues");
    const PromptGemmArgs& g = args.g;
    const int i = threadIdx.x & 127;
    const float* bias = g.bias == nullptr ? nullptr : g.bias + (size_t)tile.expert * g.n;
    if (col >= g.n) return;
    if constexpr (E == PROMPT_GATED) {
        // A lane has every second of 16 units: results are in the order that such a product reads, too.
        const int row = tile.row + first + (i >> 2), from = (i >> 1 & 1) * 16 + (i & 1);
        if (row >= tile.row_end) return;
        const float* at = sums + (i >> 2) * LD + from;
        uint32_t w[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float v[2];
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const int u = 4 * k + 2 * m;
                const float gate = fmaf(at[u], g.scale, bias == nullptr ? 0.0f : bias[col + from + u]);
                const float up = fmaf(at[32 + u], g.scale, bias == nullptr ? 0.0f : bias[col + 32 + from + u]);
                v[m] = activate(g.act, gate, up);
            }
            w[k] = bits_of(hidden_pair(make_float2(v[0], v[1])));
        }
        __half* out = static_cast<__half*>(g.out) + (size_t)row * g.ld + g.column + col / 2 + (i >> 1 & 1) * 16 + (i & 1) * 8;
        *reinterpret_cast<uint4*>(out) = make_uint4(w[0], w[1], w[2], w[3]);
    } else {
        const int n = (i & 15) * 4;
        int rows[4] = {n, n + 1, n + 2, n + 3}, column = col + n;
        if (E == PROMPT_STORE && args.head_dim > 0) column = natural_column(args, col, n, rows);
        // Only what is stored as it is may have any number of columns: the logits of a vocabulary.
        const bool is_whole = E != PROMPT_STORE || ((g.ld | g.column | g.n) & 3) == 0;
        if (column >= g.n) return;
        float b[4] = {};
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (bias != nullptr && (is_whole || column + k < g.n)) b[k] = bias[column + k];
#pragma unroll
        for (int j = 0; j < CHUNK / 8; j++) {
            const int within = j * 8 + (i >> 4), row = tile.row + first + within;
            if (row >= tile.row_end) return;
            size_t to = row;
            float weight = 1.0f, y[4];
            if (E == PROMPT_WEIGHTED) to = g.uses[row], weight = g.weights[to];
            float* out = static_cast<float*>(g.out) + to * g.ld + g.column + column;
            float4 before = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (E == PROMPT_RESIDUAL) before = *reinterpret_cast<const float4*>(out);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                y[k] = fmaf(sums[within * LD + rows[k]], g.scale, b[k]);
                if (E == PROMPT_WEIGHTED) y[k] *= weight;
            }
            if (E == PROMPT_RESIDUAL) y[0] = before.x + y[0], y[1] = before.y + y[1], y[2] = before.z + y[2], y[3] = before.w + y[3];
            if (is_whole) {
                *reinterpret_cast<float4*>(out) = make_float4(y[0], y[1], y[2], y[3]);
            } else {
#pragma unroll
                for (int k = 0; k < 4; k++)
                    if (column + k < g.n) out[k] = y[k];
            }
        }
    }
}

// A tile of at most N rows of activations.
template <PromptEpilogue E, int F, int G, int N, class Rings>
__device__ __forceinline__ void multiply_packed(const PromptPackedArgs& args, const PromptTile& tile, Rings& rings, char* shared, uint32_t base) {
    using L = Layout<F>;
    using S = PackedStage<F, G>;
    const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3, warpgroup = threadIdx.x >> 7, n_unit = args.n_unit;
    const uint8_t* own = (const uint8_t*)shared + S::AT_WEIGHTS + (threadIdx.x >> 5) * S::TILE;
    float c[N / 2] = {};
    uint32_t a[2][2][4];
    uint32_t before = 0;
    float tile_scale = 1.0f;
    if constexpr (L::TILE_SCALE > 0) {
        const int at = min((tile.col >> 4) + (int)(threadIdx.x >> 5), args.n_tile - 1);
        tile_scale = *tile_scale_at<F>(args.w + tile.expert * args.stride + at * L::tile_bytes(n_unit), n_unit);
    }
    const auto multiply = [&](const uint8_t* w, const uint8_t* tail, uint64_t b, const auto& after_first) {
        Unit<F> unit;
        read_integers<F, false>(unit, w, lane);
        read_scales<F>(unit, w, tail, lane >> 2);
#pragma unroll
        for (int kb = 0; kb < 2; kb++) {
            prompt_weights<F>(a[kb], unit, kb, tile_scale);
            wgmma_fence();
            wgmma_k16_of_registers<N, 0>(c, a[kb][0], b + 4 * kb);
            wgmma_k16_of_registers<N, 0>(c, a[kb][1], b + 4 * kb + 2);
            wgmma_commit();
            // The one before is done: its weights' registers are free.
            wgmma_wait<1>();
            if (kb == 0) after_first();
        }
    };
#pragma unroll 1
    for (int u = 0; u < n_unit; u += 2) {
        const int within = u & (S::UNITS - 1);
        if (within == 0) rings.weights.wait_full();
        rings.activations.wait_full();
        const uint8_t* w = own + rings.weights.stage * S::WEIGHTS;
        const uint64_t b = operand(base + rings.activations.stage * S::ACTIVATIONS);
        multiply(w + within * L::UNIT, w + S::UNITS * L::UNIT, b, [&] {
            if (u > 0 && lane == 0) barrier_arrive(before);
        });
        if (u + 1 < n_unit) multiply(w + (within + 1) * L::UNIT, w + S::UNITS * L::UNIT, b + (S::BN * 128 >> 4), [] {});
        before = rings.activations.empty + 8 * rings.activations.stage;
        rings.activations.next();
        if (within + 2 >= S::UNITS || u + 2 >= n_unit) {
            // The weights are in registers, of all lanes.
            __syncwarp();
            if (lane == 0) barrier_arrive(rings.weights.empty + 8 * rings.weights.stage);
            rings.weights.next();
        }
    }
    wgmma_wait<0>();
    sums_are_there(c);
    if (lane == 0) barrier_arrive(before);
    float* sums = reinterpret_cast<float*>(shared + S::AT_SUMS) + warpgroup * S::CHUNK * S::LD;
    const int n_row = tile.row_end - tile.row, row = warp * 16 + (lane >> 2), t = lane & 3;
#pragma unroll
    for (int first = 0; first < N; first += S::CHUNK) {
        if (first >= n_row) break;
        warpgroup_synchronise(warpgroup);
#pragma unroll
        for (int j = 0; j < S::CHUNK / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[(8 * j + 2 * t + (i & 1)) * S::LD + row + (i & 2) * 4] = c[(first / 8 + j) * 4 + i];
        warpgroup_synchronise(warpgroup);
        finish_packed<E, S::CHUNK, S::LD>(args, tile, tile.col + warpgroup * 64, first, sums);
    }
}

template <PromptEpilogue E, int F, int G>
__device__ __forceinline__ void prompt_packed(const PromptPackedArgs& args, char* all_shared) {
    using S = PackedStage<F, G>;
    const uint32_t start = (uint32_t)__cvta_generic_to_shared(all_shared), base = (start + 1023) & ~1023u;
    char* shared = all_shared + (base - start);
    struct {
        PackedRing<S::N_ACTIVATIONS> activations;
        PackedRing<S::N_WEIGHTS> weights;
    } rings{PackedRing<S::N_ACTIVATIONS>(base + S::AT_BARRIERS), PackedRing<S::N_WEIGHTS>(base + S::AT_BARRIERS + 16 * S::N_ACTIVATIONS)};
    if (threadIdx.x == 0) {
        const auto init = [](uint32_t full, int count) {
            for (int s = 0; s < count; ++s) {
                barrier_init(full + 8 * s, 1);
                barrier_init(full + 8 * (count + s), 4 * S::GROUPS);
            }
        };
        init(rings.activations.full, S::N_ACTIVATIONS);
        init(rings.weights.full, S::N_WEIGHTS);
        barriers_visible();
    }
    __syncthreads();
    if (args.beside == 0) wait_for_previous();
    let_next_start();
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0);
    if (warp >= 4 * S::GROUPS) {
        if constexpr (S::LENDS) registers_down_to<32>();
        if (warp == 4 * S::GROUPS) copy_packed_weights<F, G>(args, base);
        if (warp == 4 * S::GROUPS + 1) copy_packed_activations<F, G>(args, base);
    } else {
        if constexpr (S::LENDS) registers_up_to<160>();
        PromptTiles<S::BN, S::BW> tiles(args.g, blockIdx.x, gridDim.x);
        PromptTile tile;
        while (tiles.next(tile)) {
            if (S::BN > 64 && tile.row_end - tile.row > 64) multiply_packed<E, F, G, S::BN>(args, tile, rings, shared, base);
            else multiply_packed<E, F, G, 64>(args, tile, rings, shared, base);
        }
    }
    if (args.beside != 0 && blockIdx.x == 0) wait_for_previous();
}
#endif
