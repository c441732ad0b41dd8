// Products of generated rows, float16 beside 8 bits: exactness, bits, time. One program for a Hopper GPU, random weights:
//
//     nvcc -gencode=arch=compute_90a,code=sm_90a -O3 -std=c++17 -I crates/cuda/kernels -o products benches/products/main.cu && ./products
//
// Prints for each format, each matrix of Llama-3-8B and each number of columns every kernel that can do it: microseconds a launch (a graph of
// launches with programmatic dependent launch over copies that exceed the L2 cache, best of six), NMSE against float64, and how many values
// differ from those of other kernels and numbers of columns, which must be 0 for the float16 kernels. docs/src/performance.md has what it said.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "product_half_kernels.cuh"
#include "product_kernels.cuh"

PRODUCTS(Q4_K, q4_k)
PRODUCTS(Q6_K, q6_k)
HALF_PRODUCTS(Q4_K, q4_k)
HALF_PRODUCTS(Q6_K, q6_k)

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

// Random integers and scales; blocks' own scales such that minimums, where there are some, lie in the middle of the values.
template <int F>
__global__ void fill_weights(uint8_t* w, int n_unit, uint64_t seed) {
    using L = Layout<F>;
    const size_t tile = blockIdx.x;
    uint8_t* at = w + tile * L::tile_bytes(n_unit);
    for (int i = threadIdx.x; i < L::tile_bytes(n_unit) / 4; i += blockDim.x) ((uint32_t*)at)[i] = random_bits(seed + (tile << 20) + i);
    __syncthreads();
    for (int u = threadIdx.x; u < n_unit; u += blockDim.x) {
        for (int i = 0; i < 64 && L::HAS_MIN; i++) at[L::unit_at(u) + L::AT_SCALES + i] &= 63;
        if (u % 4 != 0) continue;
        __half* d = (__half*)(at + L::tail_at(u));
        for (int i = 0; i < L::TAIL / 2; i++) d[i] = __float2half(6e-5f * (1 + i / 2 % 16 / 8.0f) * (L::HAS_MIN && (i & 1) ? 7.5f : 1.0f));
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

// Every `step`-th tile in float64, a warp a tile and column: [tile][column][16].
template <int F>
__global__ void multiply_exactly(double* out, const uint8_t* w, int n_unit, const float* x, int step) {
    const int lane = threadIdx.x, g = lane >> 2, t = lane & 3;
    double sum[2] = {};
    for (int u = 0; u < n_unit; u++) {
        Unit<F> unit;
        load_unit<F>(unit, w + (size_t)blockIdx.x * step * Layout<F>::tile_bytes(n_unit), u, lane);
        for (int i = 0; i < 8; i++) {
            const int kb = i >> 2, r = i >> 1 & 1, h = i & 1;
            const float4 v = weights<F>(unit, kb, r, h);
            const float* at = x + (size_t)blockIdx.y * n_unit * 64 + u * 64 + kb * 32 + h * 16 + 4 * t;
            sum[r] += (double)v.x * at[0] + (double)v.y * at[1] + (double)v.z * at[2] + (double)v.w * at[3];
        }
    }
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        if (t == 0) out[((size_t)blockIdx.x * gridDim.y + blockIdx.y) * 16 + g + 8 * r] = sum[r];
    }
}

struct Kernel {
    const char* name;
    const void* function;
    dim3 grid;
    int n_thread, shared, cluster;
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

// As src/launch/product.rs, for 132 multiprocessors: shared memory that spreads few blocks over all of them.
static int spread(int n_block) { return n_block <= 264 ? 77 << 10 : n_block <= 396 ? 57 << 10 : 0; }

#define INT_NARROW(P, M) (F == Q4_K ? (const void*)product_q4_k_c##P##_m##M : (const void*)product_q6_k_c##P##_m##M)
#define INT_WIDE(N, W) (F == Q4_K ? (const void*)product_q4_k_n##N##_w##W : (const void*)product_q6_k_n##N##_w##W)
#define NARROW_OF(P, M) (F == Q4_K ? (const void*)product_half_q4_k_c##P##_m##M : (const void*)product_half_q6_k_c##P##_m##M)
#define WIDE_OF(N) (F == Q4_K ? (const void*)product_half_q4_k_n##N : (const void*)product_half_q6_k_n##N)

template <int F>
static Kernel in_8_bits(int n_tile, int n_unit, int n_col) {
    using L = Layout<F>;
    if (n_col <= 8) {
        const int p = n_col == 1 ? 1 : 8, m = n_tile >= 397 ? 4 : 1, stages = m == 1 ? std::min(((n_unit + 3) / 4 + 7) / 8, 3) : 2;
        const int early = m == 1 ? 192 + 288 * p : 4 * (32 * m + 16 * m * p + 4 * p);
        const int shared = 8 * (stages * (4 * L::UNIT + L::TAIL + 8 * p * 40) + m * 16 * (p + 1) * 4) + early;
        const void* f = p == 1 ? (m == 1 ? INT_NARROW(1, 1) : INT_NARROW(1, 4)) : (m == 1 ? INT_NARROW(8, 1) : INT_NARROW(8, 4));
        return {"8 bits", f, dim3(n_tile / m), 256, std::max(shared, spread(n_tile / m)), 1};
    }
    const int w = n_tile >= 1056 ? 8 : 2;
    const bool two = n_col <= 16;
    const void* f = two ? (w == 8 ? INT_WIDE(2, 8) : INT_WIDE(2, 2)) : (w == 8 ? INT_WIDE(4, 8) : INT_WIDE(4, 2));
    const int shared = two ? (w == 8 ? wide_bytes<F, 2, 8>() : wide_bytes<F, 2, 2>()) : (w == 8 ? wide_bytes<F, 4, 8>() : wide_bytes<F, 4, 2>());
    return {"8 bits", f, dim3(n_tile / w, (n_col + (two ? 15 : 31)) / (two ? 16 : 32)), 256, shared, 1};
}

template <int F, int P, int M>
static Kernel half_narrow(const void* f, int n_tile, int n_unit) {
    const int room = M > 1 ? half_stages<P, M>() : std::min(half_stages<P, M>(), ((n_unit + 3) / 4 + WARPS - 1) / WARPS);
    const int shared = WARPS * (room * HalfQuad<F, P>::BYTES + M * 16 * (P + 1) * 4) + (int)sizeof(EarlyArea<M, P>);
    return {M == 1 ? "float16, a tile" : "float16, 4 tiles", f, dim3(n_tile / M), 256, std::max(shared, spread(n_tile / M)), 1};
}

template <int F, int N>
static void add_wide(std::vector<Kernel>& to, const void* f, int n_tile, int n_col) {
    for (const int cluster : {1, 8})
        to.push_back({cluster == 1 ? "float16, wgmma" : "float16, clusters", f, dim3(n_tile / 8 * cluster, (n_col + 8 * N - 1) / (8 * N)), 288,
                      HalfWideStage<F, N>::SHARED, cluster});
}

template <int F>
static std::vector<Kernel> in_float16(int n_tile, int n_unit, int n_col) {
    std::vector<Kernel> all;
    if (n_col == 1) {
        all.push_back(half_narrow<F, 1, 1>(NARROW_OF(1, 1), n_tile, n_unit));
        all.push_back(half_narrow<F, 1, 4>(NARROW_OF(1, 4), n_tile, n_unit));
    } else if (n_col <= 8) {
        all.push_back(half_narrow<F, 8, 1>(NARROW_OF(8, 1), n_tile, n_unit));
        add_wide<F, 1>(all, WIDE_OF(1), n_tile, n_col);
    } else if (n_col <= 16) {
        add_wide<F, 2>(all, WIDE_OF(2), n_tile, n_col);
    } else if (n_col <= 32) {
        add_wide<F, 4>(all, WIDE_OF(4), n_tile, n_col);
    } else {
        if (n_col == 64) add_wide<F, 4>(all, WIDE_OF(4), n_tile, n_col);
        add_wide<F, 8>(all, WIDE_OF(8), n_tile, n_col);
    }
    return all;
}

template <int F>
static void measure(const char* name, int n_row, int n_in, cudaStream_t stream) {
    constexpr int MOST = 128;
    using L = Layout<F>;
    const int n_tile = n_row / 16, n_unit = n_in / 64, step = std::max(1, n_tile / 64), n_checked = n_tile / step;
    const size_t bytes = n_tile * L::tile_bytes(n_unit);
    const int n_copy = (300 << 20) / bytes + 1;
    uint8_t* w;
    float *x, *out;
    double* exact;
    ActOut acts = {};
    acts.k_pad = n_in;
    CHECK(cudaMalloc(&w, bytes * n_copy));
    CHECK(cudaMalloc(&x, (size_t)MOST * n_in * 4));
    CHECK(cudaMalloc(&acts.h, (size_t)MOST * n_in * 2));
    CHECK(cudaMalloc(&acts.q, (size_t)MOST * n_in));
    CHECK(cudaMalloc(&acts.s, (size_t)MOST * n_in / 4));
    CHECK(cudaMalloc(&out, (size_t)MOST * n_row * 4));
    CHECK(cudaMalloc(&exact, (size_t)n_checked * MOST * 16 * 8));
    for (int i = 0; i < n_copy; i++) fill_weights<F><<<n_tile, 128>>>(w + i * bytes, n_unit, (uint64_t)i << 50);
    fill_activations<<<512, 256>>>(x, (size_t)MOST * n_in);
    multiply_exactly<F><<<dim3(n_checked, MOST), 32>>>(exact, w, n_unit, x, step);
    std::vector<double> wanted((size_t)n_checked * MOST * 16);
    CHECK(cudaMemcpy(wanted.data(), exact, wanted.size() * 8, cudaMemcpyDeviceToHost));
    std::vector<float> found((size_t)MOST * n_row), first((size_t)MOST * n_row);
    int n_known = 0;  // columns of `first`
    printf("%s, %d x %d, %.1f MB, at 4.3 TB/s %.1f us\n", name, n_row, n_in, bytes / 1e6, bytes / 4.3e6);
    for (const int n_col : {1, 8, 16, 32, 64, 128}) {
        acts.n_col = n_col;
        CHECK(cudaMemset(acts.h, 0, (size_t)MOST * n_in * 2));
        store_activations<<<dim3(n_in / 32, n_col), 32>>>(acts, x);
        ProductArgs args = {};
        args.n_tile = n_tile, args.n_unit = n_unit, args.n_row = n_row, args.epilogue = EPILOGUE_STORE, args.x = acts, args.out = out, args.ld_out = n_row;
        std::vector<Kernel> kernels = in_float16<F>(n_tile, n_unit, n_col);
        kernels.push_back(in_8_bits<F>(n_tile, n_unit, n_col));
        for (size_t k = 0; k < kernels.size(); k++) {
            const bool is_old = k + 1 == kernels.size();
            const auto queue = [&](int i) {
                args.w = w + i % n_copy * bytes;
                launch(kernels[k], &args, stream);
            };
            CHECK(cudaMemset(out, 0xff, (size_t)MOST * n_row * 4));
            queue(0);
            CHECK(cudaStreamSynchronize(stream));
            CHECK(cudaMemcpy(found.data(), out, (size_t)n_col * n_row * 4, cudaMemcpyDeviceToHost));
            double error = 0, power = 0;
            for (int i = 0; i < n_checked * n_col * 16; i++) {
                const int tile = i / 16 / n_col, c = i / 16 % n_col;
                const double y = wanted[((size_t)tile * MOST + c) * 16 + i % 16], d = found[(size_t)c * n_row + tile * step * 16 + i % 16] - y;
                error += d * d, power += y * y;
            }
            size_t n_different = 0;
            if (!is_old) {
                for (size_t i = 0; i < (size_t)std::min(n_known, n_col) * n_row; i++) n_different += memcmp(&found[i], &first[i], 4) != 0;
                if (n_known < n_col) first = found, n_known = n_col;
            }
            const double us = microseconds(std::min(std::max(20, 2 * n_copy), 80), queue, stream);
            printf("  %3d columns  %-20s %8.2f us  %5.1f %% of 4.3 TB/s  %6.1f TFLOP/s  NMSE %.1e  %zu differ\n", n_col, kernels[k].name, us,
                   100 * bytes / 4.3e6 / us, 2e-6 * n_row * n_in * n_col / us, error / power, n_different);
        }
    }
    for (void* p : {(void*)w, (void*)x, (void*)acts.h, (void*)acts.q, (void*)acts.s, (void*)out, (void*)exact}) CHECK(cudaFree(p));
}

template <int F>
static void measure_all(const char* format, cudaStream_t stream) {
    printf("%s\n", format);
    measure<F>("attn_output", 4096, 4096, stream);
    measure<F>("qkv", 6144, 4096, stream);
    measure<F>("gate_up", 28672, 4096, stream);
    measure<F>("down", 4096, 14336, stream);
    measure<F>("output", 128256, 4096, stream);
}

int main() {
    cudaDeviceProp device;
    CHECK(cudaGetDeviceProperties(&device, 0));
    printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    measure_all<Q4_K>("Q4_K", stream);
    measure_all<Q6_K>("Q6_K", stream);
}
