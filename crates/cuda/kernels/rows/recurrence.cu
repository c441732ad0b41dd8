// Recurrent layers: a convolution over the rows of each sequence, the gated delta rule, and products of rows with gates. The mathematics is
// that of model/src/stage.rs.
//
// A sequence's state in a layer is at `state + slot * stride`, floats: the convolution's last inputs, [n_tap - 1][n_channel], oldest first, and
// then the matrices, [n_v_head][head_dim of keys][head_dim of values]. A step's rows of a sequence follow each other, and no other rows have
// their slot. Tokens are computed one after the other and every sum has one order, so a row's bits do not depend on where a prompt is cut.
#include "common.cuh"

constexpr int THREADS = 256;

struct ConvArgs {
    const float* x;       // [n_row, n_channel]
    float* out;           // [n_row, n_channel]
    const float* taps;    // [n_channel, n_tap]
    float* state;         // of slot 0
    const Row* rows;      // [n_row]
    const float* factor;  // [n_row, ld]: results are multiplied by this; null: by their sigmoid
    uint64_t stride;
    int32_t ld;
    int32_t n_row;
    int32_t n_channel;
    int32_t n_tap;
};
static_assert(sizeof(ConvArgs) == 72, "as in src/launch/recurrence.rs");

// Rows of row `r`'s sequence right before it in the step, up to `most`.
__device__ __forceinline__ int rows_before(const Row* rows, int r, int most) {
    int n = 0;
    while (n < most && n < r && rows[r - n - 1].slot == rows[r].slot) n++;
    return n;
}

// One channel of row `r`, before which `before` rows of its sequence are in the step.
__device__ __forceinline__ void conv_row(const ConvArgs& args, int r, int c, int slot, int before) {
    const int n = args.n_channel, n_old = args.n_tap - 1;
    float sum = 0.0f;
    if (slot >= 0) {
        const float* state = args.state + slot * args.stride + c;
        for (int back = n_old; back >= 0; back--) {
            const float x = back <= before ? args.x[(size_t)(r - back) * n + c] : state[(size_t)(n_old + before - back) * n];
            sum += args.taps[(size_t)c * args.n_tap + n_old - back] * x;
        }
    }
    args.out[(size_t)r * n + c] = sum * (args.factor ? args.factor[(size_t)r * args.ld + c] : 1.0f / (1.0f + expf(-sum)));
}

// Keeps the last inputs of a sequence, whose last row is `r`: the last `n_new` of them, and of those before what is left.
__device__ __forceinline__ void keep_channel(const ConvArgs& args, int r, int c, int slot, int n_new) {
    const int n = args.n_channel, n_old = args.n_tap - 1;
    float* state = args.state + slot * args.stride + c;
    for (int i = 0; i < n_old; i++) {
        const int from = i + n_new - n_old;  // among the last n_new rows; those before it are old ones
        state[(size_t)i * n] = from < 0 ? state[(size_t)(i + n_new) * n] : args.x[(size_t)(r + 1 - n_new + from) * n + c];
    }
}

// A thread a channel of a row.
extern "C" __global__ void __launch_bounds__(THREADS) conv_rows(const __grid_constant__ ConvArgs args) {
    let_next_start();
    wait_for_previous();
    const int r = blockIdx.x, c = blockIdx.y * THREADS + threadIdx.x;
    if (c < args.n_channel) conv_row(args, r, c, args.rows[r].slot, rows_before(args.rows, r, args.n_tap - 1));
}

// Once all inputs were read: a thread a channel of a sequence's last row.
extern "C" __global__ void __launch_bounds__(THREADS) conv_keep(const __grid_constant__ ConvArgs args) {
    let_next_start();
    wait_for_previous();
    const int r = blockIdx.x, c = blockIdx.y * THREADS + threadIdx.x, slot = args.rows[r].slot;
    if (c >= args.n_channel || slot < 0 || (r + 1 < args.n_row && args.rows[r + 1].slot == slot)) return;
    keep_channel(args, r, c, slot, 1 + rows_before(args.rows, r, args.n_tap - 2));
}

// Both, where sequences have few rows: a thread a channel of a sequence, from its first row on. Taps and state do not depend on the previous kernel.
extern "C" __global__ void __launch_bounds__(THREADS) conv_steps(const __grid_constant__ ConvArgs args) {
    constexpr int MOST = 3;
    let_next_start();
    // Rows were complete before this chain of dependent launches.
    const int first = blockIdx.x, c = blockIdx.y * THREADS + threadIdx.x, slot = args.rows[first].slot, n = args.n_channel, n_old = args.n_tap - 1;
    const bool is_last = slot < 0 || first + 1 == args.n_row || args.rows[first + 1].slot != slot;
    if (c >= n || (first > 0 && slot >= 0 && args.rows[first - 1].slot == slot)) return;
    const bool is_held = slot >= 0 && is_last && n_old <= MOST;
    float* const state = args.state + max(slot, 0) * args.stride + c;
    float taps[MOST + 1] = {}, old[MOST] = {};
    if (is_held)
#pragma unroll
        for (int i = 0; i <= MOST; i++) {
            if (i <= n_old) taps[i] = load_now(args.taps + (size_t)c * args.n_tap + i);
            if (i < n_old) old[i] = load_now(state + (size_t)i * n);
        }
    wait_for_previous();
    if (!is_held) {
        int r = first;
        do conv_row(args, r, c, slot, min(r - first, n_old));
        while (slot >= 0 && ++r < args.n_row && args.rows[r].slot == slot);
        if (slot >= 0) keep_channel(args, r - 1, c, slot, min(r - first, n_old));
        return;
    }
    // As `conv_row` and `keep_channel` of the one row.
    const float x = args.x[(size_t)first * n + c];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i <= MOST; i++)
        if (i <= n_old) sum += taps[i] * (i < n_old ? old[min(i, MOST - 1)] : x);
    args.out[(size_t)first * n + c] = sum * (args.factor ? args.factor[(size_t)first * args.ld + c] : 1.0f / (1.0f + expf(-sum)));
#pragma unroll
    for (int i = 0; i < MOST; i++)
        if (i < n_old) state[(size_t)i * n] = i + 1 < n_old ? old[min(i + 1, MOST - 1)] : x;
}

struct DeltaArgs {
    const float* qkv;    // [n_row, 2 n_k + n_v], after the convolution
    const float* gate;   // [n_row, n_v]
    const float* alpha;  // [n_row, n_v_head]
    const float* beta;   // [n_row, n_v_head]
    const float* a;      // [n_v_head]
    const float* dt;     // [n_v_head]
    const float* norm;   // [head_dim]
    float* out;          // [n_row, n_v]
    float* state;        // of slot 0: the matrices
    const Row* rows;     // [n_row]
    uint64_t stride;
    int32_t n_row;
    int32_t n_k_head;
    int32_t n_v_head;
    float eps;
};
static_assert(sizeof(DeltaArgs) == 104, "as in src/launch/recurrence.rs");

// A matrix's columns are independent of each other: a block has DELTA_COLUMNS of them, a warp a quarter of these. Four lanes share a column,
// each with a quarter of its rows in registers from the sequence's first row to its last, so that warps wait for no other warp.
constexpr int DELTA_COLUMNS = 32, DELTA_WARPS = 4, DELTA_PARTS = 4;

// What a lane reads of a token: some values of the key head's vectors, one of its column, and its value head's.
template <int S>
struct Token {
    float q[S / 32], k[S / 32], v, alpha, beta;
};

// The key head's vectors at unit length, a part of the rows after the other; parts begin in different banks of shared memory.
template <int S>
struct UnitVectors {
    static constexpr int PART = S / DELTA_PARTS, STEP = PART + 4;
    float q[DELTA_PARTS * STEP], k[DELTA_PARTS * STEP];
};

// Of a whole warp.
template <int S>
__device__ __forceinline__ void make_units(UnitVectors<S>& units, const Token<S>& token, float eps) {
    float of_q = 0.0f, of_k = 0.0f;
#pragma unroll
    for (int i = 0; i < S / 32; i++) {
        of_q = fmaf(token.q[i], token.q[i], of_q);
        of_k = fmaf(token.k[i], token.k[i], of_k);
    }
    of_q = 1.0f / (sqrtf((float)S) * sqrtf(warp_sum(of_q) + eps));
    of_k = 1.0f / sqrtf(warp_sum(of_k) + eps);
    __syncwarp();  // the token before has been read
#pragma unroll
    for (int i = 0; i < S / 32; i++) {
        const int at = i * 32 + (threadIdx.x & 31), to = at / UnitVectors<S>::PART * UnitVectors<S>::STEP + at % UnitVectors<S>::PART;
        units.q[to] = token.q[i] * of_q;
        units.k[to] = token.k[i] * of_k;
    }
    __syncwarp();
}

// The sum of a column's four lanes, the same bits in each.
__device__ __forceinline__ float column_sum(float v) {
    v += __shfl_xor_sync(~0u, v, 8);
    return v + __shfl_xor_sync(~0u, v, 16);
}

// One token: `m *= forget; d = (v - k m) * write; m += k d;` gives `q m`.
template <int S>
__device__ __forceinline__ float delta_step(float (&m)[S / DELTA_PARTS], const UnitVectors<S>& units, const Token<S>& token, float forget) {
    constexpr int PART = UnitVectors<S>::PART;
    const int begin = (threadIdx.x >> 3 & 3) * UnitVectors<S>::STEP;
    const float4* k = reinterpret_cast<const float4*>(units.k + begin);
    const float4* q = reinterpret_cast<const float4*>(units.q + begin);
    // Four chains for each sum: one would wait for itself.
    float d[4] = {}, o[4] = {};
#pragma unroll
    for (int i = 0; i < PART; i += 4) {
        const float4 by = k[i / 4];
        const float of[4] = {by.x, by.y, by.z, by.w};
#pragma unroll
        for (int c = 0; c < 4; c++) {
            m[i + c] *= forget;
            d[c] = fmaf(of[c], m[i + c], d[c]);
        }
    }
    const float write = 1.0f / (1.0f + expf(-token.beta));
    const float delta = (token.v - column_sum((d[0] + d[1]) + (d[2] + d[3]))) * write;
#pragma unroll
    for (int i = 0; i < PART; i += 4) {
        const float4 by = k[i / 4], to = q[i / 4];
        const float of[4] = {by.x, by.y, by.z, by.w}, out[4] = {to.x, to.y, to.z, to.w};
#pragma unroll
        for (int c = 0; c < 4; c++) {
            m[i + c] = fmaf(of[c], delta, m[i + c]);
            o[c] = fmaf(out[c], m[i + c], o[c]);
        }
    }
    return column_sum((o[0] + o[1]) + (o[2] + o[3]));
}

// What lanes read of a row for a value head's column j.
template <int S>
__device__ __forceinline__ Token<S> load_token(const DeltaArgs& args, int row, int head, int j) {
    const int n_k = args.n_k_head * S, n_v = args.n_v_head * S;
    const float* x = args.qkv + (size_t)row * (2 * n_k + n_v);
    const float* of_k = x + head % args.n_k_head * S + (threadIdx.x & 31);
    const size_t of_head = (size_t)row * args.n_v_head + head;
    Token<S> token;
#pragma unroll
    for (int i = 0; i < S / 32; i++) {
        token.q[i] = of_k[i * 32];
        token.k[i] = of_k[n_k + i * 32];
    }
    token.v = x[2 * n_k + head * S + j];
    token.alpha = args.alpha[of_head];
    token.beta = args.beta[of_head];
    return token;
}

// What a head's matrix is multiplied by.
template <int S>
__device__ __forceinline__ float forgotten(const Token<S>& token, float a, float dt) {
    const float rate = token.alpha + dt;
    return expf(a * (rate > 20.0f ? rate : log1pf(expf(rate))));
}

// What the norm multiplies a head's values by, of which a lane has every 32nd.
template <int S>
__device__ __forceinline__ float head_scale(const float (&out)[S / 32], float eps) {
    float square = 0.0f;
#pragma unroll
    for (int i = 0; i < S / 32; i++) square = fmaf(out[i], out[i], square);
    return 1.0f / sqrtf(warp_sum(square) / S + eps);
}

__device__ __forceinline__ float gated(float value, float scale, float weight, float gate) { return gate / (1.0f + expf(-gate)) * (value * scale * weight); }

// A block some columns of a value head and a sequence's rows, in order; `out` before its norm.
template <int S>
__device__ __forceinline__ void delta_rule(const DeltaArgs& args) {
    constexpr int BLOCKS = S / DELTA_COLUMNS, PART = S / DELTA_PARTS;
    __shared__ __align__(16) UnitVectors<S> shared[DELTA_WARPS];
    let_next_start();
    wait_for_previous();
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, part = lane >> 3;
    const int first = blockIdx.y, head = blockIdx.x / BLOCKS, j = blockIdx.x % BLOCKS * DELTA_COLUMNS + warp * 8 + (lane & 7);
    const int slot = args.rows[first].slot, n_v = args.n_v_head * S;
    if (slot < 0 && part == 0) args.out[(size_t)first * n_v + head * S + j] = 0.0f;
    if (slot < 0 || rows_before(args.rows, first, 1) > 0) return;
    const auto is_ours = [&](int row) { return row < args.n_row && args.rows[row].slot == slot; };
    float* state = args.state + slot * args.stride + (size_t)head * S * S + (size_t)part * PART * S + j;
    const float a = args.a[head], dt = args.dt[head];
    float m[PART];
#pragma unroll
    for (int i = 0; i < PART; i++) m[i] = state[i * S];
    Token<S> next = load_token<S>(args, first, head, j);
    for (int row = first; is_ours(row); row++) {
        const Token<S> token = next;
        if (is_ours(row + 1)) next = load_token<S>(args, row + 1, head, j);
        make_units<S>(shared[warp], token, args.eps);
        const float out = delta_step<S>(m, shared[warp], token, forgotten(token, a, dt));
        if (part == 0) args.out[(size_t)row * n_v + head * S + j] = out;
    }
#pragma unroll
    for (int i = 0; i < PART; i++) state[i * S] = m[i];
}

// What follows: the norm of a value head of a row, and its gate. A warp each.
template <int S>
__device__ __forceinline__ void delta_gate(const DeltaArgs& args) {
    let_next_start();
    wait_for_previous();
    const int row = blockIdx.x, head = blockIdx.y * DELTA_WARPS + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    if (head >= args.n_v_head || args.rows[row].slot < 0) return;
    const size_t at = ((size_t)row * args.n_v_head + head) * S + lane;
    float out[S / 32];
#pragma unroll
    for (int i = 0; i < S / 32; i++) out[i] = args.out[at + i * 32];
    const float scale = head_scale<S>(out, args.eps);
#pragma unroll
    for (int i = 0; i < S / 32; i++) args.out[at + i * 32] = gated(out[i], scale, args.norm[i * 32 + lane], args.gate[at + i * 32]);
}

// Of few rows a sequence, all of it in one: a block a value head of a sequence. The results are activations.
struct DeltaFewArgs {
    DeltaArgs delta;  // `out` is unused
    ActOut act;       // of width n_v, column = row
};
static_assert(sizeof(DeltaFewArgs) == 144, "as in src/launch/recurrence.rs");

template <int S>
__device__ __forceinline__ void delta_few(const DeltaFewArgs& few) {
    constexpr int PART = S / DELTA_PARTS, N_WARP = S / 8;
    __shared__ __align__(16) UnitVectors<S> shared[N_WARP];
    __shared__ float outs[S];
    const DeltaArgs& args = few.delta;
    let_next_start();
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, part = lane >> 3;
    const int first = blockIdx.y, head = blockIdx.x, j = warp * 8 + (lane & 7), block = head * (S / 32) + warp;
    // Rows were complete before this chain of dependent launches; nor do the state and what is learned depend on the previous kernel.
    const int slot = args.rows[first].slot;
    if (slot >= 0 && rows_before(args.rows, first, 1) > 0) return;
    float* state = args.state + max(slot, 0) * args.stride + (size_t)head * S * S + (size_t)part * PART * S + j;
    const float a = load_now(args.a + head), dt = load_now(args.dt + head), weight = warp < S / 32 ? load_now(args.norm + warp * 32 + lane) : 0.0f;
    float m[PART];
#pragma unroll
    for (int i = 0; i < PART; i++) m[i] = load_now(state + i * S);
    wait_for_previous();
    const auto store = [&](int row, float value) {
        if (warp < S / 32) store_act_block(few.act, row, block, value);
        // What pads the width.
        if (head + 1 == args.n_v_head && warp == 0)
            for (int kb = args.n_v_head * (S / 32); kb < few.act.k_pad / 32; kb++) store_act_block(few.act, row, kb, 0.0f);
    };
    if (slot < 0) return store(first, 0.0f);
    for (int row = first; row < args.n_row && args.rows[row].slot == slot; row++) {
        const Token<S> token = load_token<S>(args, row, head, j);
        const float gate = warp < S / 32 ? args.gate[(size_t)row * args.n_v_head * S + block * 32 + lane] : 0.0f;
        make_units<S>(shared[warp], token, args.eps);
        const float out = delta_step<S>(m, shared[warp], token, forgotten(token, a, dt));
        if (row > first) __syncthreads();  // the row before has been read
        if (part == 0) outs[j] = out;
        __syncthreads();
        float of_head[S / 32];
#pragma unroll
        for (int i = 0; i < S / 32; i++) of_head[i] = outs[i * 32 + lane];
        store(row, gated(outs[warp % (S / 32) * 32 + lane], head_scale<S>(of_head, args.eps), weight, gate));
    }
#pragma unroll
    for (int i = 0; i < PART; i++) state[i * S] = m[i];
}

#define DELTA(S)                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(32 * DELTA_WARPS) delta_rule_##S(const __grid_constant__ DeltaArgs args) { delta_rule<S>(args); } \
    extern "C" __global__ void __launch_bounds__(32 * DELTA_WARPS) delta_gate_##S(const __grid_constant__ DeltaArgs args) { delta_gate<S>(args); } \
    extern "C" __global__ void __launch_bounds__(4 * S) delta_few_##S(const __grid_constant__ DeltaFewArgs args) { delta_few<S>(args); }
DELTA(32)
DELTA(64)
DELTA(128)

struct GateArgs {
    const float* x;     // [n_row, ld]
    const float* gate;  // [n_row, ld]
    float* out;         // [n_row, n]: x times gate
    int32_t n;
    int32_t ld;
    int32_t is_sigmoid; // times the gate's sigmoid
    int32_t reserved;
};
static_assert(sizeof(GateArgs) == 40, "as in src/launch/recurrence.rs");

extern "C" __global__ void __launch_bounds__(THREADS) gate_rows(const __grid_constant__ GateArgs args) {
    let_next_start();
    wait_for_previous();
    const size_t at = (size_t)blockIdx.x * args.ld;
    for (int i = threadIdx.x; i < args.n; i += THREADS) {
        const float gate = args.gate[at + i];
        args.out[(size_t)blockIdx.x * args.n + i] = args.x[at + i] * (args.is_sigmoid ? 1.0f / (1.0f + expf(-gate)) : gate);
    }
}

struct GateHalvesArgs {
    __half* x;          // [n_row, n_term, n]: terms of values that become values times the gate's sigmoid
    const float* gate;  // [n_row, n]
    int32_t n;
    int32_t n_term;
};
static_assert(sizeof(GateHalvesArgs) == 24, "as in src/launch/recurrence.rs");

extern "C" __global__ void __launch_bounds__(THREADS) gate_halves(const __grid_constant__ GateHalvesArgs args) {
    let_next_start();
    wait_for_previous();
    __half* x = args.x + (size_t)blockIdx.x * args.n_term * args.n;
    const float* gate = args.gate + (size_t)blockIdx.x * args.n;
    for (int i = threadIdx.x; i < args.n; i += THREADS) {
        float v = __half2float(x[i]);
        if (args.n_term == 2) v += __half2float(x[args.n + i]);
        v *= 1.0f / (1.0f + expf(-gate[i]));
        x[i] = saturate(v);
        if (args.n_term == 2) x[args.n + i] = saturate(v - __half2float(x[i]));
    }
}
