// Products of generated rows, float16 beside 8 bits: exactness, bits, time. One program for a Hopper GPU and a format, random weights:
//
//     nvcc -gencode=arch=compute_90a,code=sm_90a -O3 -std=c++17 -DFORMAT=Q4_K -I crates/cuda/kernels -o products benches/products/main.cu
//     ./products 28672x4096 4096x14336 1536x2048/128/8/1
//
// Each argument is a matrix, or experts': rows x columns / experts / used by a row / 1 or 0 (1: every row has one column of activations,
// as before the first matrix of an expert; 0: every choice has its own). Prints for each and each number of rows of a step every kernel that
// can do it: microseconds a launch (a graph of launches with programmatic dependent launch over copies that exceed the L2 cache, best of
// six), NMSE against float64, and how many values differ from those of other kernels and numbers of rows, which must be 0 for the float16
// kernels. docs/src/performance-gpu.md has what it said.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define WITH_8_BITS
#include "product/product_half_table.cuh"
#include "product/product_half_kernels.cuh"
#include "product/product_kernels.cuh"

#ifndef FORMAT
#define FORMAT Q4_K
#endif
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
constexpr int F = FORMAT;
using L = Layout<F>;

PRODUCTS(FORMAT, old)
HALF_PRODUCTS(FORMAT, new)
HALF_WIDER(FORMAT, new, 4)

#define CHECK(call) check(call, #call)
static void check(cudaError_t error, const char* what) {
    if (error == cudaSuccess) return;
    printf("%s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

__device__ uint32_t random_bits(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
    return (uint32_t)(x ^ x >> 33);
}

// Random integers and scales; minimums, where there are some, such that they lie in the middle of the values.
__global__ void fill_weights(uint8_t* w, int n_unit, uint64_t seed) {
    const size_t tile = blockIdx.x;
    uint8_t* at = w + tile * L::tile_bytes(n_unit);
    for (int i = threadIdx.x; i < L::tile_bytes(n_unit) / 4; i += blockDim.x) ((uint32_t*)at)[i] = random_bits(seed + (tile << 20) + i);
    __syncthreads();
    for (int u = threadIdx.x; u < n_unit; u += blockDim.x) {
        uint8_t* scales = at + L::unit_at(u) + L::AT_SCALES;
        const float middle = L::ONE_BIT && !L::TWO_BITS ? 15.5f : L::NIBBLES ? 7.5f : 1.5f;
        for (int i = 0; i < 8 * L::SCALE_STRIDE; i++) {
            if (L::SCALES == SCALES_U8_MIN) scales[i] &= 63;
            if (L::SCALES == SCALES_E8M0) scales[i] = 118 + scales[i] % 5;
        }
        for (int i = 0; i < 4 * L::SCALE_STRIDE && (L::SCALES == SCALES_HALF || L::SCALES == SCALES_HALF_MIN); i++) {
            const bool is_min = L::SCALES == SCALES_HALF_MIN && i % 8 >= 4;
            ((__half*)scales)[i] = __float2half(2e-3f * (1 + (u + i % 4 + i / 8) % 16 / 8.0f) * (is_min ? -middle : 1.0f));
        }
        if (u % 4 != 0) continue;
        __half* d = (__half*)(at + L::tail_at(u));
        for (int i = 0; i < L::TAIL / 2 && u + 3 < n_unit; i++) d[i] = __float2half(6e-5f * (1 + i / 2 % 16 / 8.0f) * (L::HAS_MIN && (i & 1) ? middle : 1.0f));
    }
}

// Normal values, with large ones among them.
__global__ void fill_activations(float* x, size_t n) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        const float a = (random_bits(2 * i) + 1.0f) / 4294967297.0f, b = random_bits(2 * i + 1) / 4294967296.0f;
        x[i] = sqrtf(-2.0f * logf(a)) * cospif(2.0f * b) * (i % 97 == 5 ? 6.0f : 1.0f);
    }
}

// A warp a block of 32 of a column.
__global__ void store_activations(ActOut out, const float* x) {
    const int kb = blockIdx.x, column = blockIdx.y;
    store_act_block(out, column, kb, x[(size_t)column * out.k_pad + kb * 32 + threadIdx.x]);
}

// Every `step`-th tile in float64, a warp a tile and entry: [entry][tile][16].
__global__ void multiply_exactly(double* out, const uint8_t* w, int n_unit, const float* x, int step, const int* experts, size_t expert_bytes, int divisor) {
    const int lane = threadIdx.x, g = lane >> 2, t = lane & 3, entry = blockIdx.y;
    double sum[2] = {};
    for (int u = 0; u < n_unit; u++) {
        Unit<F> unit;
        load_unit<F>(unit, w + experts[entry] * expert_bytes + (size_t)blockIdx.x * step * L::tile_bytes(n_unit), u, lane);
        for (int i = 0; i < 8; i++) {
            const int kb = i >> 2, r = i >> 1 & 1, h = i & 1;
            const float4 v = weights<F>(unit, kb, r, h);
            const float* at = x + (size_t)(entry / divisor) * n_unit * 64 + u * 64 + kb * 32 + h * 16 + 4 * t;
            sum[r] += (double)v.x * at[0] + (double)v.y * at[1] + (double)v.z * at[2] + (double)v.w * at[3];
        }
    }
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        if (t == 0) out[((size_t)entry * gridDim.x + blockIdx.x) * 16 + g + 8 * r] = sum[r];
    }
}

struct Kernel {
    const char* name;
    const void* function;
    dim3 grid;
    int n_thread, shared, cluster, n_part = 0;
};

static void launch(const Kernel& k, void* args, cudaStream_t stream) {
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = k.cluster, attributes[1].val.clusterDim.y = 1, attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {k.grid, dim3(k.n_thread), (size_t)k.shared, stream, attributes, k.cluster > 1 ? 2u : 1u};
    CHECK(cudaFuncSetAttribute(k.function, cudaFuncAttributeMaxDynamicSharedMemorySize, k.shared));
    CHECK(cudaLaunchKernelExC(&config, k.function, &args));
}

static double microseconds(int n_launch, const std::function<void(int)>& queue, cudaStream_t stream) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < n_launch; i++) queue(i);
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&ready, graph, 0));
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    float best = INFINITY;
    for (int i = 0; i < 6; i++) {
        CHECK(cudaEventRecord(begin, stream));
        CHECK(cudaGraphLaunch(ready, stream));
        CHECK(cudaEventRecord(end, stream));
        CHECK(cudaStreamSynchronize(stream));
        float ms;
        CHECK(cudaEventElapsedTime(&ms, begin, end));
        best = std::min(best, ms);
    }
    CHECK(cudaGraphExecDestroy(ready));
    CHECK(cudaGraphDestroy(graph));
    return 1e3 * best / n_launch;
}

// As src/launch/variant.rs, for 132 multiprocessors: shared memory that spreads few blocks over all of them.
static int spread(int n_block) { return n_block <= 264 ? 77 << 10 : n_block <= 396 ? 57 << 10 : 0; }

struct Shape {
    int n_row, n_in, n_expert, n_used, divisor;  // without experts: 0, 1, 1
    int n_tile() const { return n_row / 16; }
    int n_unit() const { return n_in / 64; }
};

static Kernel old_narrow(const Shape& s, int p, int n_matrix) {
    const int m = s.n_tile() * n_matrix >= 397 ? 4 : 1, stages = m == 1 ? std::min(((s.n_unit() + 3) / 4 + 7) / 8, 3) : 2;
    const int early = m == 1 ? 192 + 288 * p : 4 * (32 * m + 16 * m * p + 4 * p), n_block = (s.n_tile() + m - 1) / m;
    const int shared = 8 * (stages * (4 * L::UNIT + L::TAIL + 8 * p * 40) + m * 16 * (p + 1) * 4) + early;
    const void* f[3][2] = {{(void*)product_old_c1_m1, (void*)product_old_c1_m4}, {(void*)product_old_c4_m1, (void*)product_old_c4_m4},
                           {(void*)product_old_c8_m1, (void*)product_old_c8_m4}};
    return {"8 bits", f[p == 1 ? 0 : p == 4 ? 1 : 2][m == 4], dim3(n_block, n_matrix), 256, std::max(shared, spread(n_block * n_matrix)), 1};
}

static Kernel in_8_bits(const Shape& s, int n_row) {
    const int n_matrix = s.n_expert > 0 ? std::min(s.n_expert, n_row * s.n_used) : 1;
    const int n_col = s.n_expert > 0 ? std::max(1, 2 * n_row * s.n_used / s.n_expert) : n_row;
    if (n_col <= 8) return old_narrow(s, n_col == 1 ? 1 : n_col <= 4 ? 4 : 8, n_matrix);
    const int w = s.n_tile() * n_matrix >= 1056 ? 8 : 2;
    const bool two = n_col <= 16;
    const void* f = two ? (w == 8 ? (void*)product_old_n2_w8 : (void*)product_old_n2_w2) : (w == 8 ? (void*)product_old_n4_w8 : (void*)product_old_n4_w2);
    const int shared = two ? (w == 8 ? wide_bytes<F, 2, 8>() : wide_bytes<F, 2, 2>()) : (w == 8 ? wide_bytes<F, 4, 8>() : wide_bytes<F, 4, 2>());
    const int y = s.n_expert > 0 ? n_matrix : (n_col + (two ? 15 : 31)) / (two ? 16 : 32);
    return {"8 bits", f, dim3((s.n_tile() + w - 1) / w, y), 256, shared, 1};
}

// `n_pass`: matrices, or groups of P columns.
template <int P, int M, int STAGES = half_stages<P, M>()>
static Kernel half_narrow(const void* f, const Shape& s, int n_pass, const char* other_name = nullptr) {
    const int shared = half_room<F, P, M, false, STAGES>(s.n_unit()) * HalfQuad<F, P>::BYTES + WARPS * M * 16 * (P + 1) * 4 + (int)sizeof(EarlyAreaOf<F, M, P>), n_block = (s.n_tile() + M - 1) / M;
    const char* name = M == 4 ? "float16, 4 tiles" : P == 1 ? "float16, a tile" : P == 8 ? (M == 1 ? "float16, narrow, 8" : "float16, narrow 2, 8") : M == 1 ? "float16, narrow, 16" : "float16, narrow 2, 16";
    return {other_name ? other_name : name, f, dim3(n_block, n_pass), 256, std::max(shared, spread(n_block * n_pass)), 1};
}

template <int N, int W = WARPS>
static void add_wide(std::vector<Kernel>& to, const void* f, const Shape& s, int n_col) {
    using S = HalfWideStage<F, N, W>;
    for (const int cluster : {1, 4, 8}) {
        if (W > WARPS && cluster > 1) break;
        const char* name = W > WARPS ? "float16, wgmma, 16" : cluster == 1 ? "float16, wgmma" : cluster == 4 ? "float16, clusters 4" : "float16, clusters 8";
        to.push_back({name, f, dim3((s.n_tile() + W - 1) / W * cluster, (n_col + 8 * N - 1) / (8 * N)), S::THREADS, S::SHARED, cluster});
    }
    for (const int n_part : {4, 8}) {
        const dim3 grid((s.n_tile() + W - 1) / W * n_part, (n_col + 8 * N - 1) / (8 * N));
        if (grid.x * grid.y > 132u * 16 / W) continue;
        const char* name = W > WARPS ? (n_part == 4 ? "float16, 4 parts, 16" : "float16, 8 parts, 16") : n_part == 4 ? "float16, 4 parts" : "float16, 8 parts";
        to.push_back({name, f, grid, S::THREADS, S::SHARED, 1, n_part});
    }
}

static std::vector<Kernel> in_float16(const Shape& s, int n_row) {
    std::vector<Kernel> all;
    const int n_matrix = s.n_expert > 0 ? std::min(s.n_expert, n_row * s.n_used) : 1;
    if (n_row == 1) {
        const bool has_experts = s.n_expert > 0;
        all.push_back(half_narrow<1, 1>(has_experts ? (void*)product_half_new_x_m1 : (void*)product_half_new_c1_m1, s, n_matrix));
        all.push_back(half_narrow<1, 4>(has_experts ? (void*)product_half_new_x_m4 : (void*)product_half_new_c1_m4, s, n_matrix));
    } else if (s.n_expert > 0) {
        const dim3 grid((s.n_tile() + 7) / 8, n_matrix);
        all.push_back({"float16, experts, 8", (void*)product_half_new_e1, grid, 288, HalfExpertStage<F, 1>::SHARED, 1});
        if (n_row >= 8) all.push_back({"float16, experts, 16", (void*)product_half_new_e2, grid, 288, HalfExpertStage<F, 2>::SHARED, 1});
    }
    if (s.n_expert == 0 && n_row > 1) {
        const auto add = [&](const char* name, const void* f, int n, int shared) {
            all.push_back({name, f, dim3((s.n_tile() + 7) / 8, (n_row + n - 1) / n), 288, shared, 1});
        };
        if (n_row <= 8) add("float16, mma, 8", (void*)product_half_new_e1, 8, HalfExpertStage<F, 1>::SHARED);
        if (n_row >= 16) add("float16, mma, 16", (void*)product_half_new_e2, 16, HalfExpertStage<F, 2>::SHARED);
    }
    if (s.n_expert == 0 && n_row > 1) {
        all.push_back(half_narrow<8, 1>((void*)product_half_new_c8_m1, s, (n_row + 7) / 8));
        all.push_back(half_narrow<8, 1, 1>((void*)product_half_new_d8_m1, s, (n_row + 7) / 8, "float16, dense, 8"));
        all.push_back(half_narrow<8, 2>((void*)product_half_new_c8_m2, s, (n_row + 7) / 8));
    }
    if (s.n_expert == 0 && n_row > 8) {
        all.push_back(half_narrow<16, 1>((void*)product_half_new_c16_m1, s, (n_row + 15) / 16));
        all.push_back(half_narrow<16, 2>((void*)product_half_new_c16_m2, s, (n_row + 15) / 16));
    }
    if (n_row == 1 || s.n_expert > 0) {
    } else if (n_row <= 8) {
        add_wide<1>(all, (void*)product_half_new_n1, s, n_row);
    } else if (n_row <= 16) {
        add_wide<2>(all, (void*)product_half_new_n2, s, n_row);
    } else if (n_row <= 32) {
        add_wide<4>(all, (void*)product_half_new_n4, s, n_row);
        add_wide<4, 2 * WARPS>(all, (void*)product_half_new_n4_w, s, n_row);
    } else {
        add_wide<8>(all, (void*)product_half_new_n8, s, n_row);
        add_wide<8, 2 * WARPS>(all, (void*)product_half_new_n8_w, s, n_row);
    }
    return all;
}

// Which rows chose which experts, in device memory, as route_decode.cu writes it.
struct Routing {
    int32_t *active, *offsets, *entries;
};

// The experts of all entries: distinct in a row, and others for another `shift`.
static std::vector<int> choose(const Shape& s, int n_row, int shift) {
    std::vector<int> experts;
    uint32_t state = 12345;
    for (int row = 0; row < n_row; row++) {
        std::vector<int> all(std::max(1, s.n_expert));
        for (size_t e = 0; e < all.size(); e++) all[e] = e;
        for (int i = 0; i < s.n_used; i++) {
            state = state * 1664525u + 1013904223u;
            std::swap(all[i], all[i + (state >> 8) % (all.size() - i)]);
            experts.push_back((all[i] + shift) % (int)all.size());
        }
    }
    return experts;
}

static Routing route(const Shape& s, const std::vector<int>& experts) {
    const int n = std::max(1, s.n_expert);
    std::vector<int32_t> active{0}, offsets{0}, entries;
    for (int e = 0; e < n; e++) {
        for (size_t i = 0; i < experts.size(); i++)
            if (experts[i] == e) entries.push_back(i);
        if ((int)entries.size() > offsets.back()) active.push_back(e), active[0]++;
        offsets.push_back(entries.size());
    }
    Routing r;
    const auto copy = [](int32_t*& to, const std::vector<int32_t>& from) {
        CHECK(cudaMalloc(&to, from.size() * 4));
        CHECK(cudaMemcpy(to, from.data(), from.size() * 4, cudaMemcpyHostToDevice));
    };
    copy(r.active, active), copy(r.offsets, offsets), copy(r.entries, entries);
    return r;
}

static void measure(const Shape& s, cudaStream_t stream) {
    constexpr int MOST = 128;
    const bool has_experts = s.n_expert > 0;
    const int n_tile = s.n_tile(), n_unit = s.n_unit(), step = std::max(1, n_tile / 32), n_checked = n_tile / step, n_matrix = std::max(1, s.n_expert);
    const size_t matrix_bytes = n_tile * L::tile_bytes(n_unit), bytes = matrix_bytes * n_matrix, n_x = (size_t)MOST * s.n_used / s.divisor;
    const int n_entry = MOST * s.n_used;
    // Copies of a matrix, or other experts' turns.
    const int n_copy = has_experts ? 1 : (300 << 20) / bytes + 1, n_turn = has_experts ? s.n_expert / s.n_used : 1;
    uint8_t* w;
    float *x, *out, *parts;
    uint32_t* n_stored;
    double* exact;
    ActOut acts = {};
    acts.k_pad = s.n_in;
    CHECK(cudaMalloc(&w, bytes * n_copy));
    CHECK(cudaMalloc(&parts, 132 * 128 << 10));
    CHECK(cudaMalloc(&n_stored, 132 * 4));
    CHECK(cudaMemset(n_stored, 0, 132 * 4));
    CHECK(cudaMalloc(&x, n_x * s.n_in * 4));
    CHECK(cudaMalloc(&acts.h, n_x * s.n_in * 2));
    CHECK(cudaMalloc(&acts.q, n_x * s.n_in));
    CHECK(cudaMalloc(&acts.s, n_x * s.n_in / 4));
    CHECK(cudaMalloc(&out, (size_t)n_entry * s.n_row * 4));
    CHECK(cudaMalloc(&exact, (size_t)n_checked * n_entry * 16 * 8));
    for (int i = 0; i < n_copy * n_matrix; i++) fill_weights<<<n_tile, 128>>>(w + i * matrix_bytes, n_unit, (uint64_t)i << 45);
    fill_activations<<<512, 256>>>(x, n_x * s.n_in);
    const std::vector<int> experts = choose(s, MOST, 0);
    int* experts_there;
    CHECK(cudaMalloc(&experts_there, experts.size() * 4));
    CHECK(cudaMemcpy(experts_there, experts.data(), experts.size() * 4, cudaMemcpyHostToDevice));
    multiply_exactly<<<dim3(n_checked, n_entry), 32>>>(exact, w, n_unit, x, step, experts_there, matrix_bytes, s.divisor);
    std::vector<double> wanted((size_t)n_checked * n_entry * 16);
    CHECK(cudaMemcpy(wanted.data(), exact, wanted.size() * 8, cudaMemcpyDeviceToHost));
    std::vector<float> found((size_t)n_entry * s.n_row), first = found;
    int n_known = 0;  // entries of `first`
    printf(TEXT(FORMAT) ", %d x %d, %d experts, %d used, %.1f MB\n", s.n_row, s.n_in, s.n_expert, has_experts ? s.n_used : 0, bytes / 1e6);
    for (const int n_row : {1, 2, 4, 8, 16, 32, 64, 128}) {
        if (!has_experts && (n_row == 2 || n_row == 4)) continue;
        const int n_here = n_row * s.n_used;
        acts.n_col = n_here / s.divisor;
        CHECK(cudaMemset(acts.h, 0, n_x * s.n_in * 2));
        store_activations<<<dim3(s.n_in / 32, acts.n_col), 32>>>(acts, x);
        ProductArgs args = {};
        args.parts = parts, args.n_stored = n_stored;
        args.n_tile = n_tile, args.n_unit = n_unit, args.n_row = s.n_row, args.epilogue = EPILOGUE_STORE, args.x = acts, args.out = out, args.ld_out = s.n_row;
        std::vector<Routing> routings;
        for (int turn = 0; turn < n_turn; turn++) routings.push_back(route(s, choose(s, n_row, turn * s.n_used)));
        std::vector<int32_t> active(1);
        CHECK(cudaMemcpy(active.data(), routings[0].active, 4, cudaMemcpyDeviceToHost));
        const double read = (double)matrix_bytes * active[0];
        std::vector<Kernel> kernels = in_float16(s, n_row);
        kernels.push_back(in_8_bits(s, n_row));
        // Of large weights, blocks of several tiles may have no room.
        kernels.erase(std::remove_if(kernels.begin(), kernels.end(), [](const Kernel& k) { return k.shared > 227 << 10; }), kernels.end());
        for (size_t k = 0; k < kernels.size(); k++) {
            const bool is_old = k + 1 == kernels.size();
            const auto queue = [&](int i) {
                args.w = w + i % n_copy * bytes;
                args.n_part = kernels[k].n_part;
                if (has_experts) {
                    const Routing& r = routings[i % n_turn];
                    args.active = r.active, args.offsets = r.offsets, args.entries = r.entries;
                    args.expert_bytes = matrix_bytes, args.column_divisor = s.divisor;
                }
                launch(kernels[k], &args, stream);
            };
            CHECK(cudaMemset(out, 0xff, (size_t)n_entry * s.n_row * 4));
            queue(0);
            CHECK(cudaStreamSynchronize(stream));
            CHECK(cudaMemcpy(found.data(), out, (size_t)n_here * s.n_row * 4, cudaMemcpyDeviceToHost));
            double error = 0, power = 0;
            for (int i = 0; i < n_here * n_checked * 16; i++) {
                const int entry = i / 16 / n_checked, tile = i / 16 % n_checked;
                const double y = wanted[i], d = found[(size_t)entry * s.n_row + tile * step * 16 + i % 16] - y;
                error += d * d, power += y * y;
            }
            size_t n_different = 0;
            if (!is_old) {
                for (size_t i = 0; i < (size_t)std::min(n_known, n_here) * s.n_row; i++) n_different += memcmp(&found[i], &first[i], 4) != 0;
                if (n_known < n_here) first = found, n_known = n_here;
            }
            const double us = microseconds(std::min(std::max(24, 2 * n_copy), 80), queue, stream);
            printf("  %3d rows  %-20s %8.2f us  %5.1f %% of 4.3 TB/s  %6.1f TFLOP/s  NMSE %.1e  %zu differ\n", n_row, kernels[k].name, us,
                   100 * read / 4.3e6 / us, 2e-6 * s.n_row * s.n_in * n_here / us, error / power, n_different);
        }
        for (Routing& r : routings)
            for (void* p : {(void*)r.active, (void*)r.offsets, (void*)r.entries}) CHECK(cudaFree(p));
    }
    for (void* p : {(void*)w, (void*)x, (void*)acts.h, (void*)acts.q, (void*)acts.s, (void*)out, (void*)parts, (void*)n_stored, (void*)exact, (void*)experts_there}) CHECK(cudaFree(p));
}

int main(int argc, char** argv) {
    cudaDeviceProp device;
    CHECK(cudaGetDeviceProperties(&device, 0));
    printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    for (int i = 1; i < argc; i++) {
        Shape s = {0, 0, 0, 1, 1};
        int is_shared = 1;
        const int n = sscanf(argv[i], "%dx%d/%d/%d/%d", &s.n_row, &s.n_in, &s.n_expert, &s.n_used, &is_shared);
        if ((n != 2 && n != 5) || s.n_row % 16 != 0 || s.n_in % (L::TAIL > 0 ? 256 : 64) != 0) {
            printf("expected rows x columns or rows x columns / experts / used / 1 or 0, whole tiles and units; found %s\n", argv[i]);
            return 2;
        }
        if (n == 5 && is_shared) s.divisor = s.n_used;
        measure(s, stream);
    }
}
