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

// A thread a channel of a row.
extern "C" __global__ void __launch_bounds__(THREADS) conv_rows(const __grid_constant__ ConvArgs args) {
    let_next_start();
    wait_for_previous();
    const int r = blockIdx.x, c = blockIdx.y * THREADS + threadIdx.x, n = args.n_channel, n_old = args.n_tap - 1;
    if (c >= n) return;
    const int slot = args.rows[r].slot;
    float sum = 0.0f;
    if (slot >= 0) {
        const float* state = args.state + slot * args.stride + c;
        const int before = rows_before(args.rows, r, n_old);
        for (int back = n_old; back >= 0; back--) {
            const float x = back <= before ? args.x[(size_t)(r - back) * n + c] : state[(size_t)(n_old + before - back) * n];
            sum += args.taps[(size_t)c * args.n_tap + n_old - back] * x;
        }
    }
    args.out[(size_t)r * n + c] = sum * (args.factor ? args.factor[(size_t)r * args.ld + c] : 1.0f / (1.0f + expf(-sum)));
}

// Keeps the last inputs of each sequence, once they were read: a thread a channel of its last row.
extern "C" __global__ void __launch_bounds__(THREADS) conv_keep(const __grid_constant__ ConvArgs args) {
    let_next_start();
    wait_for_previous();
    const int r = blockIdx.x, c = blockIdx.y * THREADS + threadIdx.x, n = args.n_channel, n_old = args.n_tap - 1;
    const int slot = args.rows[r].slot;
    if (c >= n || slot < 0 || (r + 1 < args.n_row && args.rows[r + 1].slot == slot)) return;
    float* state = args.state + slot * args.stride + c;
    const int n_new = 1 + rows_before(args.rows, r, n_old - 1);
    for (int i = 0; i < n_old; i++) {
        const int from = i + n_new - n_old;  // among the last n_new rows; those before it are old ones
        state[(size_t)i * n] = from < 0 ? state[(size_t)(i + n_new) * n] : args.x[(size_t)(r + 1 - n_new + from) * n + c];
    }
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

// What a thread reads of a row: one value of each vector of its head.
struct Token {
    float q, k, v, gate, alpha, beta;
};

// The sum over a block of S threads of each of N values, the same bits in every thread. `sums` is not used again before all have read it.
template <int S, int N>
__device__ __forceinline__ void block_sums(float (&v)[N], float (&sums)[N][S / 32]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        v[i] = warp_sum(v[i]);
        if ((threadIdx.x & 31) == 0) sums[i][threadIdx.x >> 5] = v[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        v[i] = 0.0f;
#pragma unroll
        for (int w = 0; w < S / 32; w++) v[i] += sums[i][w];
    }
}

// Keeps the compiler from loading all of a vector in shared memory before it uses any: registers are for the matrix.
__device__ __forceinline__ void load_no_further(int i) {
    if (i % 16 == 15) asm volatile("" ::: "memory");
}

// A block a value head of a sequence's rows, in order; a thread a column of its matrix, in registers from the first row to the last.
template <int S>
__device__ __forceinline__ void delta_rule(const DeltaArgs& args) {
    __shared__ __align__(16) float q[S], k[S];
    __shared__ float units[2][S / 32], squares[1][S / 32];
    let_next_start();
    wait_for_previous();
    const int first = blockIdx.x, head = blockIdx.y, j = threadIdx.x, slot = args.rows[first].slot;
    const int n_k = args.n_k_head * S, n_v = args.n_v_head * S, of_k = head % args.n_k_head * S + j, of_v = head * S + j;
    if (slot < 0) args.out[(size_t)first * n_v + of_v] = 0.0f;
    if (slot < 0 || rows_before(args.rows, first, 1) > 0) return;
    const auto is_ours = [&](int row) { return row < args.n_row && args.rows[row].slot == slot; };
    const auto load = [&](int row) {
        const float* x = args.qkv + (size_t)row * (2 * n_k + n_v);
        const size_t of_head = (size_t)row * args.n_v_head + head;
        return Token{x[of_k], x[n_k + of_k], x[2 * n_k + of_v], args.gate[(size_t)row * n_v + of_v], args.alpha[of_head], args.beta[of_head]};
    };
    float* state = args.state + slot * args.stride + (size_t)head * S * S + j;
    const float a = args.a[head], dt = args.dt[head], weight = args.norm[j];
    float m[S];
#pragma unroll
    for (int i = 0; i < S; i++) m[i] = state[i * S];
    Token next = load(first);
    for (int row = first; is_ours(row); row++) {
        const Token token = next;
        if (is_ours(row + 1)) next = load(row + 1);
        float sums[2] = {token.q * token.q, token.k * token.k};
        block_sums<S, 2>(sums, units);
        q[j] = token.q * (1.0f / (sqrtf((float)S) * sqrtf(sums[0] + args.eps)));
        k[j] = token.k * (1.0f / sqrtf(sums[1] + args.eps));
        const float rate = token.alpha + dt;
        const float forget = expf(a * (rate > 20.0f ? rate : log1pf(expf(rate))));
        const float write = 1.0f / (1.0f + expf(-token.beta));
        __syncthreads();
        // Four chains for each sum: one would wait for itself.
        float d[4] = {}, o[4] = {};
#pragma unroll
        for (int i = 0; i < S; i++) {
            m[i] *= forget;
            d[i % 4] = fmaf(k[i], m[i], d[i % 4]);
            load_no_further(i);
        }
        const float delta = (token.v - ((d[0] + d[1]) + (d[2] + d[3]))) * write;
#pragma unroll
        for (int i = 0; i < S; i++) {
            m[i] = fmaf(k[i], delta, m[i]);
            o[i % 4] = fmaf(q[i], m[i], o[i % 4]);
            load_no_further(i);
        }
        const float out = (o[0] + o[1]) + (o[2] + o[3]);
        float square[1] = {out * out};
        block_sums<S, 1>(square, squares);
        const float normed = out * (1.0f / sqrtf(square[0] / S + args.eps)) * weight;
        args.out[(size_t)row * n_v + of_v] = token.gate / (1.0f + expf(-token.gate)) * normed;
    }
#pragma unroll
    for (int i = 0; i < S; i++) state[i * S] = m[i];
}

extern "C" __global__ void __launch_bounds__(32) delta_rule_32(const __grid_constant__ DeltaArgs args) { delta_rule<32>(args); }
extern "C" __global__ void __launch_bounds__(64) delta_rule_64(const __grid_constant__ DeltaArgs args) { delta_rule<64>(args); }
extern "C" __global__ void __launch_bounds__(128) delta_rule_128(const __grid_constant__ DeltaArgs args) { delta_rule<128>(args); }

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
