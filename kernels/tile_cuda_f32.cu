/* Tiles on a GPU in float. */
#define GRAM_REAL   float
#define TILE_CODE   GramTileCuda_f32
#define TILE_TENSOR 1 /* factored tiles on tensor cores */
#include "tile_cuda_impl.cu"
