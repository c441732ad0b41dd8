// Attention of generated rows over a cache of Q8_0: entry points by head size.
#include "attend_decode.cuh"
#include "attend_tile_q8.cuh"

#define ATTEND_DECODE(HD)                                                                                       \
    extern "C" __global__ void __launch_bounds__(Shape<TileQ8<HD>>::THREADS, 2)                                   \
        attend_decode_q8_##HD(const __grid_constant__ AttendDecodeArgs args) {                                         \
        attend_decode<TileQ8<HD>>(args);                                                                        \
    }

ATTEND_DECODE(32)
ATTEND_DECODE(64)
ATTEND_DECODE(96)
ATTEND_DECODE(128)
ATTEND_DECODE(192)
ATTEND_DECODE(256)
