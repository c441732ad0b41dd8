// Products of generated rows in float16 beside the worker's kernels: exactness, bits, time. One program for a Hopper GPU, random Q4_K weights:
//
//     nvcc -gencode=arch=compute_90a,code=sm_90a -O3 -std=c++17 -I crates/cuda/kernels -o products benches/products/main.cu && ./products
//
// Prints for each matrix of Llama-3-8B and each number of columns: microseconds a launch (a graph of launches with programmatic dependent
// launch over copies that exceed the L2 cache, best of six), NMSE against float64, and how many values differ from those of other numbers of
// columns, which must be 0 for the float16 kernels. docs/src/performance.md has what it said.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "narrow.cuh"
#include "product_kernels.cuh"
#include "wide.cuh"

PRODUCTS(Q4_K, q4_k)

using L = Layout<Q4_K>;

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

// Random nibbles and 6-bit scales; blocks' own scales such that the minimums lie in the middle of the values.
__global__ void fill_weights(uint8_t* w, int n_unit, uint64_t seed) {
    const size_t tile = blockIdx.x;
    uint8_t* at = w + tile * L::tile_bytes(n_unit);
    for (int i = threadIdx.x; i < L::tile_bytes(n_unit) / 4; i += blockDim.x) ((uint32_t*)at)[i] = random_bits(seed + (tile << 20) + i);
    __syncthreads();
    for (int u = threadIdx.x; u < n_unit; u += blockDim.x) {
        for (int i = 0; i < 64; i++) at[L::unit_at(u) + L::AT_SCALES + i] &= 63;
        if (u % 4 != 0) continue;
        __half* d = (__half*)(at + L::tail_at(u));
        for (int i = 0; i < 32; i++) d[i] = __float2half(6e-5f * (1 + i / 2 % 16 / 8.0f) * (i & 1 ? 7.5f : 1.0f));
    }
}

// Normal values, with large ones among them.
__global__ void fill_activations(float* x, size_t n) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        const float a = (random_bits(2 * i) + 1.0f) / 4294967297.0f, b = random_bits(2 * i + 1) / 4294967296.0f;
        x[i] = sqrtf(-2.0f * logf(a)) * cospif(2.0f * b) * (i % 97 == 5 ? 6.0f : 1.0f);
    }
}

// A warp a block of 32 of a column: as float16 and as 8-bit integers.
__global__ void store_activations(__half* h, ActOut ints, const float* x) {
    const int kb = blockIdx.x, column = blockIdx.y;
    const float value = x[(size_t)column * ints.k_pad + kb * 32 + threadIdx.x];
    h[half_at_place(ints.n_col, column, kb, threadIdx.x)] = act_half(value);
    store_act_block(ints, column, kb, value);
}

// Every `step`-th tile in float64, a warp a tile and column: [tile][column][16].
__global__ void multiply_exactly(double* out, const uint8_t* w, int n_unit, const float* x, int step) {
    const int lane = threadIdx.x, g = lane >> 2, t = lane & 3;
    double sum[2] = {};
    for (int u = 0; u < n_unit; u++) {
        Unit<Q4_K> unit;
        load_unit<Q4_K>(unit, w + (size_t)blockIdx.x * step * L::tile_bytes(n_unit), u, lane);
        for (int i = 0; i < 8; i++) {
            const int kb = i >> 2, r = i >> 1 & 1, h = i & 1;
            const float4 v = weights<Q4_K>(unit, kb, r, h);
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

static Kernel workers(int n_tile, int n_unit, int n_col) {
    if (n_col <= 8) {
        const int p = n_col == 1 ? 1 : 8, m = n_tile >= 400 ? 4 : 1, stages = m == 1 ? std::min(((n_unit + 3) / 4 + 7) / 8, 3) : 2;
        const int early = m == 1 ? 192 + 288 * p : 4 * (32 * m + 16 * m * p + 4 * p);
        const int shared = 8 * (stages * (4 * L::UNIT + L::TAIL + 8 * p * 40) + m * 16 * (p + 1) * 4) + early;
        const void* f = p == 1 ? (m == 1 ? (void*)product_q4_k_c1_m1 : (void*)product_q4_k_c1_m4)
                               : (m == 1 ? (void*)product_q4_k_c8_m1 : (void*)product_q4_k_c8_m4);
        return {f, dim3(n_tile / m), 256, std::max(shared, spread(n_tile / m)), 1};
    }
    const int w = n_tile >= 1024 ? 8 : 2;
    const bool two = n_col <= 16;
    const void* f = two ? (w == 8 ? (void*)product_q4_k_n2_w8 : (void*)product_q4_k_n2_w2)
                        : (w == 8 ? (void*)product_q4_k_n4_w8 : (void*)product_q4_k_n4_w2);
    const int shared = two ? (w == 8 ? wide_bytes<Q4_K, 2, 8>() : wide_bytes<Q4_K, 2, 2>())
                           : (w == 8 ? wide_bytes<Q4_K, 4, 8>() : wide_bytes<Q4_K, 4, 2>());
    return {f, dim3(n_tile / w, (n_col + (two ? 15 : 31)) / (two ? 16 : 32)), 256, shared, 1};
}

template <int NT>
static Kernel wide_kernel(int n_tile, int n_col) {
    // Where blocks alone would be fewer than multiprocessors.
    const int cluster = n_tile < 1024 ? 8 : 1;
    return {(void*)wide<Q4_K, NT>, dim3(n_tile / 8 * cluster, (n_col + 8 * NT - 1) / (8 * NT)), 288, Stage<Q4_K, NT>::SHARED, cluster};
}

static std::vector<Kernel> new_ones(int n_tile, int n_col) {
    const auto shared = [&](int bytes) { return std::max(bytes, spread(n_tile)); };
    if (n_col == 1) return {{(void*)narrow<Q4_K, 1>, dim3(n_tile), 256, shared(NarrowQuad<Q4_K, 1>::SHARED), 1}};
    if (n_col <= 8) return {{(void*)narrow<Q4_K, 8>, dim3(n_tile), 256, shared(NarrowQuad<Q4_K, 8>::SHARED), 1}, wide_kernel<1>(n_tile, n_col)};
    return {n_col <= 16 ? wide_kernel<2>(n_tile, n_col) : n_col <= 32 ? wide_kernel<4>(n_tile, n_col) : wide_kernel<8>(n_tile, n_col)};
}

static void measure(const char* name, int n_row, int n_in, cudaStream_t stream) {
    constexpr int MOST = 128;
    const int n_tile = n_row / 16, n_unit = n_in / 64, step = std::max(1, n_tile / 64), n_checked = n_tile / step;
    const size_t bytes = n_tile * L::tile_bytes(n_unit);
    const int n_copy = (300 << 20) / bytes + 1;
    uint8_t* w;
    float *x, *out;
    __half* h;
    double* exact;
    ActOut ints = {};
    ints.k_pad = n_in;
    CHECK(cudaMalloc(&w, bytes * n_copy));
    CHECK(cudaMalloc(&x, (size_t)MOST * n_in * 4));
    CHECK(cudaMalloc(&h, (size_t)MOST * n_in * 2));
    CHECK(cudaMalloc(&ints.q, (size_t)MOST * n_in));
    CHECK(cudaMalloc(&ints.s, (size_t)MOST * n_in / 4));
    CHECK(cudaMalloc(&out, (size_t)MOST * n_row * 4));
    CHECK(cudaMalloc(&exact, (size_t)n_checked * MOST * 16 * 8));
    for (int i = 0; i < n_copy; i++) fill_weights<<<n_tile, 128>>>(w + i * bytes, n_unit, (uint64_t)i << 50);
    fill_activations<<<512, 256>>>(x, (size_t)MOST * n_in);
    multiply_exactly<<<dim3(n_checked, MOST), 32>>>(exact, w, n_unit, x, step);
    std::vector<double> wanted((size_t)n_checked * MOST * 16);
    CHECK(cudaMemcpy(wanted.data(), exact, wanted.size() * 8, cudaMemcpyDeviceToHost));
    std::vector<float> found((size_t)MOST * n_row), first((size_t)MOST * n_row);
    int n_known = 0;  // columns of `first`
    printf("%s, %d x %d, %.1f MB, at 4.3 TB/s %.1f us\n", name, n_row, n_in, bytes / 1e6, bytes / 4.3e6);
    for (const int n_col : {1, 8, 16, 32, 64, 128}) {
        ints.n_col = n_col;
        CHECK(cudaMemset(h, 0, (size_t)MOST * n_in * 2));
        store_activations<<<dim3(n_in / 32, n_col), 32>>>(h, ints, x);
        ProductArgs old = {};
        old.n_tile = n_tile, old.n_unit = n_unit, old.n_row = n_row, old.epilogue = EPILOGUE_STORE, old.x = ints, old.out = out, old.ld_out = n_row;
        Args args = {w, h, out, n_tile, n_unit, n_col};
        std::vector<Kernel> kernels = new_ones(n_tile, n_col);
        kernels.push_back(workers(n_tile, n_unit, n_col));
        for (size_t k = 0; k < kernels.size(); k++) {
            const bool is_old = k + 1 == kernels.size();
            const auto queue = [&](int i) {
                old.w = args.w = w + i % n_copy * bytes;
                launch(kernels[k], is_old ? (void*)&old : (void*)&args, stream);
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
            const char* wide_name = kernels[k].cluster > 1 ? "float16, clusters" : "float16, wgmma";
            const char* kernel_name = is_old ? "8-bit, the worker's" : kernels[k].n_thread == 256 ? "float16, mma.sync" : wide_name;
            printf("  %3d columns  %-20s %8.2f us  %5.1f %% of 4.3 TB/s  %6.1f TFLOP/s  NMSE %.1e  %zu differ\n", n_col, kernel_name, us,
                   100 * bytes / 4.3e6 / us, 2e-6 * n_row * n_in * n_col / us, error / power, n_different);
        }
    }
    for (void* p : {(void*)w, (void*)x, (void*)h, (void*)ints.q, (void*)ints.s, (void*)out, (void*)exact}) CHECK(cudaFree(p));
}

int main() {
    cudaDeviceProp device;
    CHECK(cudaGetDeviceProperties(&device, 0));
    printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    measure("attn_output", 4096, 4096, stream);
    measure("qkv", 6144, 4096, stream);
    measure("gate_up", 28672, 4096, stream);
    measure("down", 4096, 14336, stream);
    measure("output", 128256, 4096, stream);
}
