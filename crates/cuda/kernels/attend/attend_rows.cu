// Attention row by row, for what the other attention kernels are not made for: heads of any multiple of 16 values up to MOST, a cap of
// the scores, and values that are a part of the keys. Over a cache of float16 or of Q8_0, for generated rows and for prompts.
//
// A block computes up to HEADS query heads of one key head of one row, over the pages that the row sees, in ascending order (online
// softmax, arXiv 1805.02867). A generated row's pages may be cut into splits, which `attend_rows_combine` adds in order; how they are cut
// follows from what the row sees. So a row's bits depend on its own sequence and position alone.
//
// Grid (n_row, n_kv_head * chunks of up to HEADS query heads, splits).
#include "attend/attend.cuh"
#include "attend/kv_q8.cuh"

// Keys that values are a part of may have up to MOST_KEY values.
constexpr int HEADS = 8, THREADS = 256, MOST = 2 * THREADS, MOST_KEY = MOST + 128;
static_assert(THREADS == 32 * HEADS && THREADS % PAGE == 0 && HEADS % (THREADS / PAGE) == 0, "a warp a head, a thread a position");

struct AttendRowsArgs {
    const float* x;           // [n_row, n_head * head_dim]: queries after RoPE
    float* out;               // [n_row, n_head * n_value]: results, zeros for padding; may be where the queries are if there are as many
    const uint8_t* k_cache;   // this layer's, the step's own rows included
    const uint8_t* v_cache;   // that of the keys where they are the values too
    const Row* rows;          // [n_row]
    const uint32_t* page_tables;
    const float* sinks;       // [n_head] or null
    int32_t n_head;
    int32_t n_kv_head;
    int32_t head_dim;
    int32_t max_pages;
    int32_t window;           // 0: none
    float scale;
    float cap;                // scores become cap * tanh(score / cap); 0: they stay
    int32_t splits;           // not 0: rows are cut
    float* part;              // [n_row][n_head][SPLITS][n_value + 2]: of each split its sums, their maximum and their total
    int32_t n_value;          // of a head of values, at most MOST
    int32_t value_at;         // where they begin in what is kept of a position: not 0 where the values are a part of the keys
};
static_assert(sizeof(AttendRowsArgs) == 104, "as in src/launch/attend_rows.rs");

// At most so many splits, of at least so many pages.
constexpr int SPLITS = 16, SPLIT_PAGES = 8;

// The pages that a row sees, and how they are cut.
struct Seen {
    int first, first_page, end_page, per_split, count;

    __device__ __forceinline__ Seen(const AttendRowsArgs& args, const Row& row) {
        first = args.window > 0 ? max(0, row.position + 1 - args.window) : 0;
        first_page = first / PAGE, end_page = row.position / PAGE + 1;
        const int n = end_page - first_page;
        per_split = args.splits ? max(SPLIT_PAGES, (n + SPLITS - 1) / SPLITS) : n;
        count = (n + per_split - 1) / per_split;
    }
};

// What a head's sums must be multiplied by: 1 / (total + e^(sink - top)).
__device__ __forceinline__ float divisor(float sink, float top, float total) {
    const float largest = fmaxf(top, sink), shrink = expf(top - largest);
    return shrink / (total * shrink + expf(sink - largest));
}

// A page of a head as float16: [PAGE][head_dim].
struct PageF16 {
    const __half* values;

    __device__ PageF16(const uint8_t* cache, size_t index, int head_dim, bool) : values((const __half*)cache + index * (PAGE * head_dim)) {}

    // Eight values from `at` on, a multiple of 8.
    __device__ __forceinline__ void load8(float (&v)[8], int head_dim, int position, int at) const {
        const uint4 bits = *(const uint4*)(values + position * head_dim + at);
        const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 two = __half22float2(*(const __half2*)&pairs[i]);
            v[2 * i] = two.x, v[2 * i + 1] = two.y;
        }
    }

    __device__ __forceinline__ float2 load2(int head_dim, int position, int at) const {
        return __half22float2(*(const __half2*)(values + position * head_dim + at));
    }
};

// A page of a head as Q8_0 (kv_q8.cuh).
struct PageQ8 {
    const uint8_t* bytes;
    bool is_value;

    __device__ PageQ8(const uint8_t* cache, size_t index, int head_dim, bool is_value)
        : bytes(cache + index * page_bytes_q8(head_dim)), is_value(is_value) {}

    __device__ __forceinline__ float scale(int head_dim, int position, int at) const {
        return __half2float(*(const __half*)(bytes + scale_at_q8(head_dim, is_value, position, at / 32)));
    }

    __device__ __forceinline__ void load8(float (&v)[8], int head_dim, int position, int at) const {
        const uint2 q = *(const uint2*)(bytes + position * head_dim + at);
        const float d = scale(head_dim, position, at);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = d * (float)(int8_t)((i < 4 ? q.x : q.y) >> (i % 4 * 8));
    }

    __device__ __forceinline__ float2 load2(int head_dim, int position, int at) const {
        const uint16_t q = *(const uint16_t*)(bytes + position * head_dim + at);
        const float d = scale(head_dim, position, at);
        return make_float2(d * (float)(int8_t)(q & 0xff), d * (float)(int8_t)(q >> 8));
    }
};

template <class Page>
__device__ __forceinline__ void attend_rows(const AttendRowsArgs& args) {
    __shared__ __align__(16) float memory[HEADS * MOST_KEY];  // queries [HEADS][head_dim]; at the end the threads' sums
    __shared__ float weights[HEADS][PAGE];
    __shared__ float shrinks[HEADS], factors[HEADS];
    let_next_start();
    wait_for_previous();
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, n = args.head_dim, n_value = args.n_value, half = n_value / 2;
    const int group = args.n_head / args.n_kv_head, chunks = (group + HEADS - 1) / HEADS;
    const int kv_head = blockIdx.y / chunks, chunk = blockIdx.y - kv_head * chunks;
    const int first_head = kv_head * group + chunk * HEADS, n_head = min(HEADS, group - chunk * HEADS);
    const float* x = args.x + ((size_t)blockIdx.x * args.n_head + first_head) * n;
    float* out = args.out + ((size_t)blockIdx.x * args.n_head + first_head) * n_value;
    const Row row = args.rows[blockIdx.x];
    if (row.slot < 0) {
        if (blockIdx.z > 0) return;
        for (int i = tid; i < n_head * n_value; i += THREADS) out[i] = 0.0f;
        return;
    }
    const Seen seen_pages(args, row);
    if (blockIdx.z >= seen_pages.count) return;
    for (int i = tid; i < HEADS * n; i += THREADS) memory[i] = i < n_head * n ? x[i] : 0.0f;
    const int first_seen = seen_pages.first, first_page = seen_pages.first_page + blockIdx.z * seen_pages.per_split;
    const int end_page = min(first_page + seen_pages.per_split, seen_pages.end_page);
    const uint32_t* pages = args.page_tables + (size_t)row.slot * args.max_pages;
    // Two values of the head are summed by each of `ranks` threads, which share the positions of a page.
    const int ranks = min(THREADS / half, PAGE), rank = tid / half, pair = tid - rank * half;
    float2 sums[HEADS] = {};
    float top = -INFINITY, total = 0.0f;  // of head `warp`
    __syncthreads();
    for (int index = first_page; index < end_page; index++) {
        const int start = index * PAGE, begin = max(first_seen - start, 0), end = min(row.position + 1 - start, PAGE);
        const size_t at = (size_t)pages[index] * args.n_kv_head + kv_head;
        {
            const Page keys(args.k_cache, at, n, false);
            constexpr int STEP = THREADS / PAGE;
            const int position = tid % PAGE, first = tid / PAGE;
            const bool seen = begin <= position && position < end;
            float dots[HEADS / STEP] = {};
            for (int c = 0; seen && c < n; c += 8) {
                float k[8];
                keys.load8(k, n, position, c);
#pragma unroll
                for (int i = 0; i < HEADS / STEP; i++) {
                    const float4* q = (const float4*)(memory + (first + i * STEP) * n + c);
                    const float4 a = q[0], b = q[1];
                    dots[i] += (a.x * k[0] + a.y * k[1]) + (a.z * k[2] + a.w * k[3]) + ((b.x * k[4] + b.y * k[5]) + (b.z * k[6] + b.w * k[7]));
                }
            }
#pragma unroll
            for (int i = 0; i < HEADS / STEP; i++) {
                float score = dots[i] * args.scale;
                if (args.cap > 0.0f) score = args.cap * tanhf(score / args.cap);
                weights[first + i * STEP][position] = seen ? score : -INFINITY;
            }
        }
        __syncthreads();
        {
            const float s0 = weights[warp][lane], s1 = weights[warp][lane + 32];
            // A row sees a position of each of its pages, so this is a number.
            const float largest = fmaxf(top, warp_max(fmaxf(s0, s1))), shrink = expf(top - largest);
            const float w0 = expf(s0 - largest), w1 = expf(s1 - largest);
            total = total * shrink + warp_sum(w0 + w1);
            top = largest;
            weights[warp][lane] = w0, weights[warp][lane + 32] = w1;
            if (lane == 0) shrinks[warp] = shrink;
        }
        __syncthreads();
        if (rank < ranks) {
            const Page values(args.v_cache, at, n, args.v_cache != args.k_cache);
#pragma unroll
            for (int h = 0; h < HEADS; h++) sums[h].x *= shrinks[h], sums[h].y *= shrinks[h];
            // Positions that are not seen may hold anything, also what is not a number.
            for (int j = begin + (rank - begin % ranks + ranks) % ranks; j < end; j += ranks) {
                const float2 v = values.load2(n, j, args.value_at + pair * 2);
#pragma unroll
                for (int h = 0; h < HEADS; h++) sums[h].x += weights[h][j] * v.x, sums[h].y += weights[h][j] * v.y;
            }
        }
        __syncthreads();
    }
    const bool is_cut = seen_pages.count > 1;
    float* part = args.part + ((size_t)(blockIdx.x * args.n_head + first_head) * SPLITS + blockIdx.z) * (n_value + 2);
    const size_t part_of_head = (size_t)SPLITS * (n_value + 2);
    if (lane == 0 && warp < n_head) {
        factors[warp] = is_cut ? 1.0f : divisor(args.sinks ? args.sinks[first_head + warp] : -INFINITY, top, total);
        if (is_cut) part[warp * part_of_head + n_value] = top, part[warp * part_of_head + n_value + 1] = total;
    }
    float2* shared = (float2*)memory;  // [HEADS][ranks][half]
    if (rank < ranks) {
#pragma unroll
        for (int h = 0; h < HEADS; h++) shared[(h * ranks + rank) * half + pair] = sums[h];
    }
    __syncthreads();
    for (int i = tid; i < n_head * half; i += THREADS) {
        const int h = i / half;
        const float2* parts = shared + h * ranks * half + (i - h * half);
        float2 sum = parts[0];
        for (int r = 1; r < ranks; r++) sum.x += parts[r * half].x, sum.y += parts[r * half].y;
        float2* to = is_cut ? (float2*)(part + h * part_of_head) + (i - h * half) : (float2*)out + i;
        *to = make_float2(sum.x * factors[h], sum.y * factors[h]);
    }
}

// Adds the splits of a row's head in order. Grid (n_row, n_head).
extern "C" __global__ void __launch_bounds__(THREADS) attend_rows_combine(const __grid_constant__ AttendRowsArgs args) {
    let_next_start();
    wait_for_previous();
    const Row row = args.rows[blockIdx.x];
    if (row.slot < 0) return;
    const Seen seen_pages(args, row);
    if (seen_pages.count == 1) return;
    const int n = args.n_value, head = blockIdx.y;
    const size_t index = (size_t)blockIdx.x * args.n_head + head;
    const float* part = args.part + index * SPLITS * (n + 2);
    float top = -INFINITY, total = 0.0f;
    for (int s = 0; s < seen_pages.count; s++) top = fmaxf(top, part[s * (n + 2) + n]);
    for (int s = 0; s < seen_pages.count; s++) total += expf(part[s * (n + 2) + n] - top) * part[s * (n + 2) + n + 1];
    const float factor = divisor(args.sinks ? args.sinks[head] : -INFINITY, top, total);
    for (int i = threadIdx.x; i < n; i += THREADS) {
        float sum = 0.0f;
        for (int s = 0; s < seen_pages.count; s++) sum += expf(part[s * (n + 2) + n] - top) * part[s * (n + 2) + i];
        args.out[index * n + i] = sum * factor;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) attend_rows_f16(const __grid_constant__ AttendRowsArgs args) { attend_rows<PageF16>(args); }
extern "C" __global__ void __launch_bounds__(THREADS) attend_rows_q8(const __grid_constant__ AttendRowsArgs args) { attend_rows<PageQ8>(args); }
