/* Tiles on a GPU in double. */
#define GRAM_REAL   double
#define TILE_CODE   GramTileCuda_f64
#define TILE_TENSOR 0
#include "tile_cuda_impl.cu"
