// Attention of generated rows over a cache of float16 that normalises and turns queries and keys: entry points by head size. A block has all
// the registers that it wants, as there are few.
#include "attend/attend_decode.cuh"

#define ATTEND_PLACED(HD)                                                                                       \
    extern "C" __global__ void __launch_bounds__(Shape<PlacedTile<HD>>::THREADS, 1)                             \
        attend_decode_placed_##HD(const __grid_constant__ AttendPlacedArgs args) {                              \
        attend_decode<PlacedTile<HD>>(args.attend, &args.place);                                                \
    }

ATTEND_PLACED(32)
ATTEND_PLACED(64)
ATTEND_PLACED(96)
ATTEND_PLACED(128)
ATTEND_PLACED(192)
ATTEND_PLACED(256)
