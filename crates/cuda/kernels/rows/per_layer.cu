// What layers add of the token itself: model/src/stage.rs has the mathematics, under `Embed` and `FfnOut`.
#include "product/product.cuh"

constexpr int THREADS = 256;

struct PerLayerInputsArgs {
    float* inputs;       // [n_row, n_layer, n]: embeddings of the tokens for each layer, which become the layers' inputs
    const float* model;  // [n_row, n_layer, n]: what a map makes of the model's own embeddings
    const float* norm;   // [n]
    int32_t n_layer;
    int32_t n;
    float scale;         // of `model`
    float eps;
};
static_assert(sizeof(PerLayerInputsArgs) == 40, "as in src/launch/per_layer.rs");

// A warp a layer of a row.
extern "C" __global__ void __launch_bounds__(THREADS) per_layer_inputs(const __grid_constant__ PerLayerInputsArgs args) {
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, layer = blockIdx.y * (THREADS / 32) + (threadIdx.x >> 5);
    if (layer >= args.n_layer) return;
    const size_t at = ((size_t)blockIdx.x * args.n_layer + layer) * args.n;
    const float* model = args.model + at;
    float sum = 0.0f;
    for (int i = lane; i < args.n; i += 32) {
        const float m = args.scale * model[i];
        sum += m * m;
    }
    const float scale = args.scale / sqrtf(warp_sum(sum) / args.n + args.eps);
    for (int i = lane; i < args.n; i += 32)
        args.inputs[at + i] = (args.inputs[at + i] + model[i] * (scale * args.norm[i])) * 0.7071067811865476f;
}

struct PerLayerGateArgs {
    float* x;            // [n_row, n]: becomes act(x) * input
    const float* input;  // [n_row, ld]
    int32_t n;
    int32_t ld;
    int32_t activation;
    float alpha, limit;
    int32_t reserved;
};
static_assert(sizeof(PerLayerGateArgs) == 40, "as in src/launch/per_layer.rs");

extern "C" __global__ void __launch_bounds__(THREADS) per_layer_gate(const __grid_constant__ PerLayerGateArgs args) {
    let_next_start();
    wait_for_previous();
    float* x = args.x + (size_t)blockIdx.x * args.n;
    const float* input = args.input + (size_t)blockIdx.x * args.ld;
    for (int i = threadIdx.x; i < args.n; i += THREADS) x[i] = activate(args.activation, x[i], input[i], args.alpha, args.limit);
}
