// A row's logits in shared memory: reading them, and steps 1 to 4 of crates/model/src/sampling.rs.
#pragma once

#include "sample/sample_team.cuh"

// Loads the segment, with -inf for what is no finite number, and gives the lane's best by rank.
__device__ __forceinline__ uint64_t load_segment(const float* logits, float* z, int segment, int first, int n_vocab) {
    const int lane = threadIdx.x & 31;
    const bool whole = (n_vocab & 3) == 0 && ((uintptr_t)logits & 15) == 0;
    float best = -INFINITY;
    int best_id = first;
    constexpr int AT_ONCE = 5;
    for (int base = lane * 4; base < segment; base += AT_ONCE * 128) {
        float4 v[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = base + k * 128, id = first + i;
            v[k] = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
            if (i >= segment || id >= n_vocab) continue;
            if (whole) {
                v[k] = *(const float4*)(logits + id);
            } else {
                v[k].x = logits[id];
                if (id + 1 < n_vocab) v[k].y = logits[id + 1];
                if (id + 2 < n_vocab) v[k].z = logits[id + 2];
                if (id + 3 < n_vocab) v[k].w = logits[id + 3];
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = base + k * 128;
            if (i >= segment) continue;
            // NaN fails the comparison.
            v[k].x = v[k].x < INFINITY ? v[k].x : -INFINITY;
            v[k].y = v[k].y < INFINITY ? v[k].y : -INFINITY;
            v[k].z = v[k].z < INFINITY ? v[k].z : -INFINITY;
            v[k].w = v[k].w < INFINITY ? v[k].w : -INFINITY;
            *(float4*)(z + i) = v[k];
            if (v[k].x > best) best = v[k].x, best_id = first + i;
            if (v[k].y > best) best = v[k].y, best_id = first + i + 1;
            if (v[k].z > best) best = v[k].z, best_id = first + i + 2;
            if (v[k].w > best) best = v[k].w, best_id = first + i + 3;
        }
    }
    __syncwarp();
    return rank_key(best_id, best);
}

// Steps 3 and 4 on one logit. `count` is 0 for an id in neither prompt nor answer.
__device__ __noinline__ float penalised(const SampleRow& row, float v, uint32_t count) {
    if (count == 0) return v;
    v = v > 0.0f ? v / row.repetition : v * row.repetition;
    const uint32_t n = count & 0x7FFFFFFFu;
    return n > 0 ? (v - (float)n * row.frequency) - row.presence : v;
}

// Steps 1 to 4 on the warp's segment, and the lane's best by rank.
__device__ __forceinline__ uint64_t edit_segment(const SampleArgs& args, const SampleRow& row, float* z, int segment, int first) {
    const int lane = threadIdx.x & 31, n_vocab = args.n_vocab;
    __syncwarp();
    if (row.flags & SAMPLE_MASK) {
        // A word is 32 ids: segments are multiples of 128.
#pragma unroll 5
        for (int i = lane; i < segment; i += 32)
            if (first + i < n_vocab && !(args.area[row.mask + ((first + i) >> 5)] >> lane & 1)) z[i] = -INFINITY;
        __syncwarp();
    }
    if (row.flags & SAMPLE_BIAS) {
        const uint32_t* pairs = args.area + row.bias;
        for (uint32_t k = lane; k < row.n_bias; k += 32) {
            const uint32_t id = pairs[2 * k];
            if ((int)id < first || (int)id >= first + segment || (k > 0 && pairs[2 * k - 2] == id)) continue;
            // Equal ids stand together, in the order of the list.
            float v = z[id - first];
            for (uint32_t j = k; j < row.n_bias && pairs[2 * j] == id; j++) v = v + float_of(pairs[2 * j + 1]);
            z[id - first] = v;
        }
        __syncwarp();
    }
    const bool penalties = row.flags & SAMPLE_PENALTIES;
    const uint32_t* counts = args.counts + (size_t)row.slot * n_vocab;
    // Of a checked row, the guesses before it count as if they had been sampled.
    const uint32_t* guesses = args.area + row.guesses + 1;
    const uint32_t n_guess = penalties && row.flags & SAMPLE_CHECKED ? guesses[-1] : 0;
    float best = -INFINITY;
    int best_id = first;
    // As in load_segment.
    constexpr int AT_ONCE = 5;
    for (int base = lane * 4; base < segment; base += AT_ONCE * 128) {
        uint4 n[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = base + k * 128, id = first + i;
            n[k] = make_uint4(0, 0, 0, 0);
            if (!penalties || i >= segment || id >= n_vocab) continue;
            if ((n_vocab & 3) == 0) {
                n[k] = *(const uint4*)(counts + id);
            } else {
                n[k].x = counts[id];
                if (id + 1 < n_vocab) n[k].y = counts[id + 1];
                if (id + 2 < n_vocab) n[k].z = counts[id + 2];
                if (id + 3 < n_vocab) n[k].w = counts[id + 3];
            }
        }
        for (uint32_t j = 0; j < n_guess; j++) {
            const uint32_t guess = guesses[j] - first - base;
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const uint32_t at = guess - k * 128;
                n[k].x += at == 0, n[k].y += at == 1, n[k].z += at == 2, n[k].w += at == 3;
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = base + k * 128;
            if (i >= segment) continue;
            float4 v = *(float4*)(z + i);
            if (n[k].x | n[k].y | n[k].z | n[k].w) {
                v.x = penalised(row, v.x, n[k].x);
                v.y = penalised(row, v.y, n[k].y);
                v.z = penalised(row, v.z, n[k].z);
                v.w = penalised(row, v.w, n[k].w);
                *(float4*)(z + i) = v;
            }
            if (v.x > best) best = v.x, best_id = first + i;
            if (v.y > best) best = v.y, best_id = first + i + 1;
            if (v.z > best) best = v.z, best_id = first + i + 2;
            if (v.w > best) best = v.w, best_id = first + i + 3;
        }
    }
    __syncwarp();
    return rank_key(best_id, best);
}
