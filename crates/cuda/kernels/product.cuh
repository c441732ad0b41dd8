// y = W x for the generated rows of a step: all columns of the activations at once, tensor cores in the decode path.
//
// Integers: mma.m16n8k32.s8 gives a block's dot products exactly, whatever the number of columns, and the float part is one
// multiply and one fused multiply-add a block in a fixed order. So a column's bits depend on neither the other columns nor the
// template's tile sizes. Floats: activations and (for F32) weights are split into two tf32 terms, which keeps about 21 bits.
//
// A block computes MT tiles of 16 rows for up to 8 NT columns. Its 8 warps cut n_in into 8 ranges of units and their sums are added in
// the order of the warps.
#pragma once

#include "format.cuh"

constexpr int WARPS = 8;

// What is done with the sums.
enum Epilogue : int {
    EPILOGUE_STORE,     // out[column][row] = y + bias
    EPILOGUE_RESIDUAL,  // out[column][row] += y + bias
    EPILOGUE_QKV,       // RoPE; queries to out, keys and values to the cache
    EPILOGUE_GATED,     // rows in groups of 32 gate, 32 up: act(gate, up) to `act`
    EPILOGUE_PLAIN,     // act(y) to `act`
    EPILOGUE_WEIGHTED,  // out[column][row] = (y + bias) * weight[column]
};

enum Activation : int { ACTIVATION_SILU, ACTIVATION_GELU_TANH, ACTIVATION_CLAMPED_SWIGLU };

struct ProductArgs {
    const uint8_t* w;       // tiles
    const float* bias;      // [n_tile * 16] in the order of the tiles' rows, or null
    int32_t n_tile;
    int32_t n_unit;
    int32_t n_row;          // rows that are stored: the last tile's others are padding
    int32_t epilogue;
    ActOut x;               // the activations (f for float weights, q and s otherwise)
    float* out;             // [column][ld_out]
    int32_t ld_out;
    int32_t first_row;      // in `out`
    // Gated and plain.
    ActOut act;
    int32_t activation;
    float alpha, limit;
    // Queries, keys and values.
    int32_t head_dim;
    int32_t half_rot;       // pairs of a head that turn; tiles hold pairs (g, g + 8)
    int32_t adjacent;       // a pair is (2i, 2i + 1), otherwise (i, i + half_rot)
    int32_t n_q, n_k;       // rows of queries, rows of keys; values follow
    int32_t qkv_row;        // of the first tile, among queries, keys and values
    int32_t n_kv_head, max_pages, reserved0;
    const float2* turns;    // [n_ctx][half_rot] cosine and sine
    __half* k_cache;
    __half* v_cache;
    const Row* rows;
    const uint32_t* page_tables;
    // Mixture of experts: blockIdx.y counts the chosen experts, whose columns are listed.
    const int32_t* active;      // [0]: how many experts; then their numbers
    const int32_t* offsets;     // [n_expert + 1] into `entries`
    const int32_t* entries;     // row * n_used + choice
    const float* weights;       // [entry]
    uint64_t expert_bytes;      // of an expert's tiles
    int32_t column_divisor;     // the activations' column is entry / this; 0: no experts
    int32_t reserved;
};
static_assert(sizeof(ProductArgs) == 248, "as in src/args.rs");

__device__ __forceinline__ void mma_s8_k32(int (&c)[4], uint4 a, uint2 b) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

__device__ __forceinline__ void mma_s8_k16(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a0), "r"(a1), "r"(b));
}

__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t to_tf32(float v) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
    return r;
}

// 1.5 * 2^23: an integer of less than 2^22 added to its bits is added to its value.
constexpr int MAGIC_BITS = 0x4B400000;
constexpr float MAGIC = 12582912.0f;

__device__ __forceinline__ float activate(int kind, float g, float u, float alpha, float limit) {
    if (kind == ACTIVATION_SILU) return g / (1.0f + expf(-g)) * u;
    if (kind == ACTIVATION_GELU_TANH) {
        const float inner = 0.7978845608028654f * (g + 0.044715f * g * g * g);
        return 0.5f * g * (1.0f + tanhf(inner)) * u;
    }
    const float gate = fminf(g, limit);
    const float up = fminf(fmaxf(u, -limit), limit);
    return (up + 1.0f) * (gate / (1.0f + expf(-alpha * gate)));
}

// The columns of a block: the activations' own, or those of an expert.
struct Columns {
    const int32_t* entries;  // null: columns are the activations' own
    int divisor;
    int first, end;

    __device__ __forceinline__ int source(int i) const {
        const int c = first + i;
        if (!entries) return c;
        return c < end ? entries[c] / divisor : 0;
    }
};

// Copies 16 or 8 bytes to shared memory on its own; weights pass L1 by, activations are shared by the blocks of a multiprocessor.
__device__ __forceinline__ void copy_weights(uint32_t to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
template <int BYTES>
__device__ __forceinline__ void copy_activations(uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(BYTES) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// What a warp has of a unit in shared memory: MT tiles' weights, then for each block of 32 the integers of 8 NT columns, then their scales.
template <int F, int NT, int MT>
struct Stage {
    using L = Layout<F>;
    static constexpr int WEIGHTS = L::UNIT + L::TAIL;
    static constexpr int AT_INTEGERS = MT * WEIGHTS;
    static constexpr int AT_SCALES = AT_INTEGERS + 2 * NT * 256;
    static constexpr int BYTES = AT_SCALES + 2 * NT * 64;
};

// What a lane copies, worked out before the loop: offsets from the start of a unit's weights and activations.
template <int F, int NT, int MT>
struct Copier {
    using L = Layout<F>;
    using S = Stage<F, NT, MT>;
    static constexpr int N_SCALE = (NT + 1) / 2;
    const uint8_t* w;       // the lane's first 16 bytes of unit 0
    const uint8_t* tail;    // its 16 bytes of the first tail plane
    size_t tile_bytes;
    const int8_t* q;
    const ActScale* s;
    int q_stride, s_stride;  // from one unit to the next, in bytes and scales
    int q_at[NT];            // -1: no such column
    int s_at[N_SCALE];

    __device__ __forceinline__ void set_columns(const ActOut& x, const Columns& columns, int n_column, int lane) {
        q = x.q, s = x.s;
        q_stride = x.n_col * 64, s_stride = x.n_col * 2;
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const int i = 8 * n + (lane >> 2), kb = lane >> 1 & 1, half = lane & 1;
            const int c = columns.source(i);
            q_at[n] = i < n_column ? kb * x.n_col * 32 + (c >> 3) * 256 + (c & 7) * 32 + 16 * half : -1;
        }
#pragma unroll
        for (int j = 0; j < N_SCALE; j++) {
            const int i = 16 * j + (lane >> 1), kb = lane & 1;
            s_at[j] = i < n_column && i < 8 * NT ? kb * x.n_col + columns.source(i) : -1;
        }
    }

    __device__ __forceinline__ void copy_weights_of(uint32_t stage, int u, int lane) const {
        constexpr int N = L::UNIT / 16;
        const int at = u * L::UNIT + (u >> 2) * L::TAIL;
#pragma unroll
        for (int m = 0; m < MT; m++) {
            const uint8_t* from = w + m * tile_bytes + at;
            const uint32_t to = stage + m * S::WEIGHTS + lane * 16;
#pragma unroll
            for (int i = 0; i < N; i += 32)
                if (i + 32 <= N || i + lane < N) copy_weights(to + i * 16, from + i * 16);
            if (L::TAIL > 0 && lane >= 32 - L::TAIL / 16)
                copy_activations<16>(to + L::UNIT - (32 - L::TAIL / 16) * 16, tail + m * tile_bytes + (u >> 2) * (4 * L::UNIT + L::TAIL));
        }
    }

    __device__ __forceinline__ void copy_activations_of(uint32_t stage, int u, int lane) const {
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const uint32_t to = stage + S::AT_INTEGERS + ((lane >> 1 & 1) * NT + n) * 256 + (lane >> 2) * 32 + (lane & 1) * 16;
            if (q_at[n] >= 0) copy_activations<16>(to, q + (size_t)u * q_stride + q_at[n]);
        }
#pragma unroll
        for (int j = 0; j < N_SCALE; j++) {
            const uint32_t to = stage + S::AT_SCALES + ((lane & 1) * NT * 8 + 16 * j + (lane >> 1)) * 8;
            if (s_at[j] >= 0) copy_activations<8>(to, s + (size_t)u * s_stride + s_at[j]);
        }
    }
};

// Adds the products of one unit of integers.
template <int F, int NT, int MT>
__device__ __forceinline__ void add_integers(float (&acc)[MT][NT][4], const uint8_t* stage, int n_tiles_used, int lane) {
    using L = Layout<F>;
    using S = Stage<F, NT, MT>;
    constexpr int GROUPS = L::GROUPS_OF_16 ? 2 : 1;
    const int t = lane & 3;
    Unit<F> w[MT];
#pragma unroll
    for (int m = 0; m < MT; m++) {
        const uint8_t* p = stage + m * S::WEIGHTS;
        read_unit<F, false>(w[m], p, p + L::UNIT, lane);
    }
#pragma unroll
    for (int kb = 0; kb < 2; kb++) {
        uint4 a[MT];
        float2 scale[MT][2][GROUPS];
#pragma unroll
        for (int m = 0; m < MT; m++) {
            a[m] = make_uint4(integers<F>(w[m], kb, 0, 0), integers<F>(w[m], kb, 1, 0), integers<F>(w[m], kb, 0, 1),
                              integers<F>(w[m], kb, 1, 1));
#pragma unroll
            for (int r = 0; r < 2; r++)
#pragma unroll
                for (int h = 0; h < GROUPS; h++) scale[m][r][h] = scale_of<F>(w[m], kb, r, h);
        }
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (NT > 1 && n >= n_tiles_used) continue;
            const uint2 b = ((const uint2*)(stage + S::AT_INTEGERS + (kb * NT + n) * 256))[lane];
            const uint4 s = ((const uint4*)(stage + S::AT_SCALES + (kb * NT + n) * 64))[t];
            const float d0 = __uint_as_float(s.x), d1 = __uint_as_float(s.z);
            const int low0 = (int16_t)s.y, high0 = (int)s.y >> 16, low1 = (int16_t)s.w, high1 = (int)s.w >> 16;
#pragma unroll
            for (int h = 0; h < GROUPS; h++) {
                const int sum0 = GROUPS == 2 ? (h == 0 ? low0 : high0) : low0 + high0;
                const int sum1 = GROUPS == 2 ? (h == 0 ? low1 : high1) : low1 + high1;
                const int start0 = MAGIC_BITS - L::OFFSET * sum0, start1 = MAGIC_BITS - L::OFFSET * sum1;
                const float weighted0 = __fmul_rn(d0, (float)sum0), weighted1 = __fmul_rn(d1, (float)sum1);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    int c[4] = {start0, start1, start0, start1};
                    if constexpr (GROUPS == 2) {
                        mma_s8_k16(c, h == 0 ? a[m].x : a[m].z, h == 0 ? a[m].y : a[m].w, h == 0 ? b.x : b.y);
                    } else {
                        mma_s8_k32(c, a[m], b);
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const float2 w2 = scale[m][i >> 1][h];
                        const float sum = __fsub_rn(__int_as_float(c[i]), MAGIC);
                        acc[m][n][i] = __fmaf_rn(__fmul_rn(w2.x, i & 1 ? d1 : d0), sum, acc[m][n][i]);
                        if constexpr (L::HAS_MIN) acc[m][n][i] = __fmaf_rn(w2.y, i & 1 ? weighted1 : weighted0, acc[m][n][i]);
                    }
                }
            }
        }
    }
}

// Adds the products of one unit of floats.
template <int F, int NT, int MT>
__device__ __forceinline__ void add_floats(float (&acc)[MT][NT][4], const Unit<F> (&w)[MT], const ActOut& act, int u, const Columns& columns,
                                           int n_tiles_used, int lane) {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int kb = 0; kb < 2; kb++) {
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (NT > 1 && n >= n_tiles_used) continue;
            const float4* x = (const float4*)(act.f + (size_t)columns.source(8 * n + g) * act.k_pad + u * 64 + kb * 32);
            const float4 v[2] = {x[t], x[4 + t]};
            const float* p = &v[0].x;
            uint32_t hi[8], lo[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                hi[j] = to_tf32(p[j]);
                lo[j] = to_tf32(p[j] - __uint_as_float(hi[j]));
            }
#pragma unroll
            for (int m = 0; m < MT; m++) {
                float4 f[2][2];
#pragma unroll
                for (int i = 0; i < 4; i++) f[i >> 1][i & 1] = weights<F>(w[m], kb, i >> 1, i & 1);
                const float* row0 = &f[0][0].x;
                const float* row1 = &f[1][0].x;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float values[4] = {row0[2 * j], row1[2 * j], row0[2 * j + 1], row1[2 * j + 1]};
                    uint32_t a[4], rest[4];
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        a[i] = F == F32 ? to_tf32(values[i]) : __float_as_uint(values[i]);
                        rest[i] = F == F32 ? to_tf32(values[i] - __uint_as_float(a[i])) : 0;
                    }
                    mma_tf32(acc[m][n], a, lo[2 * j], lo[2 * j + 1]);
                    if constexpr (F == F32) mma_tf32(acc[m][n], rest, hi[2 * j], hi[2 * j + 1]);
                    mma_tf32(acc[m][n], a, hi[2 * j], hi[2 * j + 1]);
                }
            }
        }
    }
}

// Where a row of queries, keys or values (in the order of the tiles) belongs within its head.
__device__ __forceinline__ int natural_row(const ProductArgs& args, int i) {
    const int tile = i >> 4, pair = tile * 8 + (i & 7);
    if (tile * 8 >= args.half_rot) return i;
    const int side = (i >> 3) & 1;
    return args.adjacent ? 2 * pair + side : pair + side * args.half_rot;
}

// Two rows g and g + 8 of a tile of queries, keys or values, of one column.
__device__ __forceinline__ void store_qkv(const ProductArgs& args, int tile, int g, int column, float a, float b) {
    const Row row = args.rows[column];
    if (row.slot < 0) return;
    const int at = args.qkv_row + tile * 16;
    const bool is_q = at < args.n_q, is_v = at >= args.n_q + args.n_k;
    const int within = at - (is_q ? 0 : is_v ? args.n_q + args.n_k : args.n_q);
    const int head = within / args.head_dim, i = within - head * args.head_dim + g;
    int i0 = i, i1 = i + 8;
    if (!is_v) {
        const int pair = (i >> 4) * 8 + (i & 7);
        if (pair < args.half_rot) {
            const float2 turn = args.turns[(size_t)row.position * args.half_rot + pair];
            const float ra = a * turn.x - b * turn.y;
            b = a * turn.y + b * turn.x;
            a = ra;
        }
        i0 = natural_row(args, i), i1 = natural_row(args, i + 8);
    }
    if (is_q) {
        float* q = args.out + (size_t)column * args.ld_out + head * args.head_dim;
        q[i0] = a, q[i1] = b;
        return;
    }
    const uint32_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
    __half* cache = is_v ? args.v_cache : args.k_cache;
    cache += (((size_t)page * args.n_kv_head + head) * PAGE + row.position % PAGE) * args.head_dim;
    cache[i0] = __float2half_rn(a), cache[i1] = __float2half_rn(b);
}

// How deep a warp's copies run ahead: units in shared memory.
template <int F, int NT, int MT>
__host__ __device__ constexpr int n_stage() {
    return Layout<F>::FLOAT ? 0 : NT == 1 && MT == 1 ? 4 : 3;
}

// Columns that are reduced together.
template <int MT, int NT>
__host__ __device__ constexpr int reduced_columns() {
    return 8 * (MT == 1 ? NT : NT < 2 ? NT : 2);
}

// Dynamic shared memory: the stages, or, after the last unit, the sums.
template <int F, int NT, int MT>
__host__ __device__ constexpr int shared_bytes() {
    constexpr int STAGES = WARPS * n_stage<F, NT, MT>() * Stage<F, NT, MT>::BYTES;
    constexpr int SUMS = WARPS * MT * 16 * (reduced_columns<MT, NT>() + 1) * 4;
    return STAGES > SUMS ? STAGES : SUMS;
}

template <int F, int NT, int MT>
__device__ __forceinline__ void product(const ProductArgs& args) {
    using L = Layout<F>;
    using S = Stage<F, NT, MT>;
    constexpr int RC = reduced_columns<MT, NT>();
    constexpr int LD = RC + 1;
    constexpr int STAGES = n_stage<F, NT, MT>();
    extern __shared__ __align__(128) uint8_t shared[];
    float(*sums)[MT * 16][LD] = (float(*)[MT * 16][LD])shared;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    const int tile0 = blockIdx.x * MT;
    const size_t tile_bytes = L::tile_bytes(args.n_unit);
    const uint8_t* w = args.w + tile0 * tile_bytes;
    const int u0 = args.n_unit * warp / WARPS, u1 = args.n_unit * (warp + 1) / WARPS;
    let_next_start();

    // The first units' weights do not depend on the previous kernel, unless experts are yet to be chosen.
    const bool is_dense = args.column_divisor == 0;
    uint8_t* const stages = shared + warp * STAGES * S::BYTES;
    const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
    Copier<F, NT, MT> copier;
    copier.w = w + lane * 16;
    copier.tail = w + 4 * L::UNIT + (lane - (32 - L::TAIL / 16)) * 16;
    copier.tile_bytes = tile_bytes;
    if constexpr (!L::FLOAT) {
        if (is_dense) {
#pragma unroll
            for (int i = 0; i < STAGES - 1; i++)
                if (u0 + i < u1) copier.copy_weights_of(stages_at + i * S::BYTES, u0 + i, lane);
        }
    }
    wait_for_previous();

    Columns columns{nullptr, 1, (int)blockIdx.y * 8 * NT, args.x.n_col};
    const float* bias = args.bias;
    if (!is_dense) {
        if ((int)blockIdx.y >= args.active[0]) return;
        const int expert = args.active[1 + blockIdx.y];
        columns = Columns{args.entries, args.column_divisor, args.offsets[expert], args.offsets[expert + 1]};
        w += expert * args.expert_bytes;
        copier.w += expert * args.expert_bytes;
        copier.tail += expert * args.expert_bytes;
        if (bias) bias += (size_t)expert * args.n_tile * 16;
    }
    bool weights_are_coming = is_dense;
    for (; columns.first < columns.end; columns.first += 8 * NT) {
        const int n_column = min(columns.end - columns.first, 8 * NT);
        const int n_tiles_used = (n_column + 7) >> 3;
        float acc[MT][NT][4] = {};
        if constexpr (L::FLOAT) {
            for (int u = u0; u < u1; u++) {
                Unit<F> unit[MT];
#pragma unroll
                for (int m = 0; m < MT; m++) load_unit<F>(unit[m], w + m * tile_bytes, u, lane);
                add_floats<F, NT, MT>(acc, unit, args.x, u, columns, n_tiles_used, lane);
            }
        } else {
            copier.set_columns(args.x, columns, n_column, lane);
#pragma unroll
            for (int i = 0; i < STAGES - 1; i++) {
                if (u0 + i < u1) {
                    const uint32_t stage = stages_at + i * S::BYTES;
                    if (!weights_are_coming) copier.copy_weights_of(stage, u0 + i, lane);
                    copier.copy_activations_of(stage, u0 + i, lane);
                }
                commit_copies();
            }
            weights_are_coming = false;
            int at = 0;
            for (int u = u0; u < u1; u++) {
                wait_copies<STAGES - 2>();
                __syncwarp();
                const int ahead = u + STAGES - 1;
                if (ahead < u1) {
                    const uint32_t stage = stages_at + (at == 0 ? STAGES - 1 : at - 1) * S::BYTES;
                    copier.copy_weights_of(stage, ahead, lane);
                    copier.copy_activations_of(stage, ahead, lane);
                }
                commit_copies();
                add_integers<F, NT, MT>(acc, stages + at * S::BYTES, n_tiles_used, lane);
                at = at + 1 == STAGES ? 0 : at + 1;
                __syncwarp();
            }
        }

#pragma unroll
        for (int c0 = 0; c0 < NT * 8; c0 += RC) {
            if (c0 >= n_column) break;
            __syncthreads();
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int n = 0; n < RC / 8; n++) {
                    const float(&v)[4] = acc[m][c0 / 8 + n];
                    sums[warp][m * 16 + g][n * 8 + 2 * t] = v[0];
                    sums[warp][m * 16 + g][n * 8 + 2 * t + 1] = v[1];
                    sums[warp][m * 16 + g + 8][n * 8 + 2 * t] = v[2];
                    sums[warp][m * 16 + g + 8][n * 8 + 2 * t + 1] = v[3];
                }
            __syncthreads();
            const auto sum_of = [&](int row, int c) {
                float y = sums[0][row][c];
#pragma unroll
                for (int i = 1; i < WARPS; i++) y = __fadd_rn(y, sums[i][row][c]);
                return bias ? __fadd_rn(y, bias[tile0 * 16 + row]) : y;
            };
            const int n_here = min(n_column - c0, RC);
            // Where a column's results go: its place among the entries where experts are involved.
            const auto target = [&](int c) {
                const int i = columns.first + c0 + c;
                return columns.entries ? columns.entries[i] : i;
            };
            if (args.epilogue == EPILOGUE_GATED || args.epilogue == EPILOGUE_PLAIN) {
                const bool gated = args.epilogue == EPILOGUE_GATED;
                const int n_group = gated ? MT / 4 : MT / 2;
                for (int i = warp; i < n_group * n_here; i += WARPS) {
                    const int group = i / n_here, c = i - group * n_here;
                    const int row = gated ? group * 64 + lane : group * 32 + lane;
                    if (tile0 * 16 + row >= args.n_tile * 16) continue;
                    const float y = sum_of(row, c);
                    const float up = gated ? sum_of(row + 32, c) : 1.0f;
                    const float h = activate(args.activation, y, up, args.alpha, args.limit);
                    store_act_block(args.act, target(c), (gated ? tile0 / 4 : tile0 / 2) + group, h);
                }
            } else if (args.epilogue == EPILOGUE_QKV) {
                for (int i = threadIdx.x; i < MT * 8 * n_here; i += WARPS * 32) {
                    const int pair = i % (MT * 8), c = i / (MT * 8), m = pair >> 3, g8 = pair & 7;
                    if (tile0 + m >= args.n_tile) continue;
                    store_qkv(args, tile0 + m, g8, target(c), sum_of(m * 16 + g8, c), sum_of(m * 16 + g8 + 8, c));
                }
            } else {
                for (int i = threadIdx.x; i < MT * 16 * n_here; i += WARPS * 32) {
                    const int row = i % (MT * 16), c = i / (MT * 16), r = tile0 * 16 + row;
                    if (r >= args.n_row) continue;
                    const int column = target(c);
                    float y = sum_of(row, c);
                    float* out = args.out + (size_t)column * args.ld_out + args.first_row + r;
                    if (args.epilogue == EPILOGUE_RESIDUAL) y = __fadd_rn(*out, y);
                    if (args.epilogue == EPILOGUE_WEIGHTED) y = __fmul_rn(y, args.weights[column]);
                    *out = y;
                }
            }
        }
        if (is_dense) break;
        __syncthreads();
    }
}

#define PRODUCT(FORMAT, SUFFIX, NT, MT) \
    extern "C" __global__ void __launch_bounds__(WARPS * 32) product_##SUFFIX##_n##NT##_m##MT(const __grid_constant__ ProductArgs args) { \
        product<FORMAT, NT, MT>(args); \
    }
// For up to 8, 32 and 64 columns; for few and for many tiles.
#define PRODUCTS(FORMAT, SUFFIX) \
    PRODUCT(FORMAT, SUFFIX, 1, 1) \
    PRODUCT(FORMAT, SUFFIX, 1, 4) \
    PRODUCT(FORMAT, SUFFIX, 4, 2) \
    PRODUCT(FORMAT, SUFFIX, 4, 4) \
    PRODUCT(FORMAT, SUFFIX, 8, 2) \
    PRODUCT(FORMAT, SUFFIX, 8, 4)
