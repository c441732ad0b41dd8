// Attention of generated rows over a cache of float16: entry points by head size.
#include "attend_decode.cuh"

#define ATTEND_DECODE(HD)                                                                                       \
    extern "C" __global__ void __launch_bounds__(Shape<Tile<HD>>::THREADS, 2)                                   \
        attend_decode_##HD(const __grid_constant__ AttendDecodeArgs args) {                                         \
        attend_decode<Tile<HD>>(args);                                                                        \
    }

ATTEND_DECODE(32)
ATTEND_DECODE(64)
ATTEND_DECODE(80)
ATTEND_DECODE(96)
ATTEND_DECODE(128)
ATTEND_DECODE(192)
ATTEND_DECODE(256)
