/*
  The CUDA tile product: what backend_cuda.cu plans and tile_cuda_impl.cu, compiled once per precision, computes.

  A block of threads, here an item, takes a strip of rows against pieces of columns. It writes what it sums to a place
  of its own, and TileFold() adds these partial sums to y and u, always in the order of the plan: no atomics, the
  same bits in every run.
*/
#pragma once

#include <cuda_runtime.h>

#include "radial.h"

#define GRAM_CUDA_DIM 128 /* most coordinates of derivatives */

#if !defined(GRAM_LAUNCH)
  #define GRAM_LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif

/* Columns of one tile. Sums of its columns go to col_sums + sum + (strip of the item) stride, [n_cols][numbers]; < 0:
   there are none. */
typedef struct {
  long long sum, stride;
  int       col, n_cols;
  int       panel;     /* where TilePack() leaves its right-hand sides, in sixteens of columns, */
  int       scale;     /* and their scales */
  int       tile_bits; /* of a panel: entries are at most 2^-tile_bits */
} GramPiece;

/* Rows of one strip against pieces first ... first + count of one or more tiles. Sums of its rows go to
   row_sums + sum, [n_rows][numbers]. */
typedef struct {
  long long sum;
  int       row, n_rows, strip, first, count, centre;
  int       row_bits; /* of a panel: 2^(row_bits + tile_bits) phi / factor of the row is below 2^15 */
} GramItem;

/* What n points from first on get: the partial sums at begin ... end of a list of places, in that order. */
typedef struct {
  int first, n, begin, end;
} GramFoldKey;

/* Columns first ... first + n of v, to be packed from place panel on. */
typedef struct {
  int first, n, panel;
} GramPack;

/* What a launch computes. Arrays are on the device; numbers that a point carries: 1, with derivatives 1 + dim. */
typedef struct {
  const double    *x, *z; /* [dim][ldx], [dim][ldz] in the profile's unit */
  long             ldx, ldz;
  const double    *v, *w; /* [n][b][q], [m][a][q] */
  int              dim, q;
  int              r0, width;             /* of the columns of v and w, those taken now */
  const double    *v_largest, *w_largest; /* [q] of the magnitudes in v, w, where the kernel wants them */
  int              rows, cols;            /* GramPart */
  double           unit;                  /* derivatives count in it */
  double           beta;                  /* kernel.beta, where the profile depends on it */
  const GramItem  *items;
  const GramPiece *pieces;
  const double    *centres; /* [.][dim] what coordinates are relative to */
  double          *row_sums, *col_sums;
  const GramPack  *packs;
  uint4           *panel;       /* [columns / 16][width / 8][32] fragments of v */
  float           *panel_scale; /* [packs][width] by which their products are multiplied */
} GramWork;

/* A way to compute items. */
typedef struct {
  void (*launch)(const GramWork *work, int n_items, cudaStream_t stream);
  int strip;  /* rows of an item, at most */
  int step;   /* columns that go into the double sum of a row at once: tiles are cut at its multiples */
  int width;  /* right-hand sides of a launch, at most */
  int both;   /* it sums columns too */
  int scaled; /* it wants v_largest and w_largest */
  void (*pack)(const GramWork *work, int n_packs,
               cudaStream_t stream); /* or NULL: makes panel and panel_scale first */
} GramTileKernel;

/*
  direct     differences of coordinates, squared and summed: any profile, any points
  factored   Gaussians of up to 3 coordinates as 2^-|u|^2 2^(2 u.y) 2^-|y|^2 about the centre of the strip, u and y the
             offsets from it: the outer factors once per point. In float the inner products are formed by tensor cores,
             offsets split into two halves of 11 bits; v and w are scaled, so that no factor takes them out of range.
*/
typedef enum { GRAM_DIRECT, GRAM_FACTORED } GramTier;

typedef struct {
  /* launch is NULL where there is none; q right-hand sides in all */
  GramTileKernel (*pick)(GramTier tier, GramRadial type, int dim, bool derivatives, int q, bool both);
} GramTileCudaCode;

extern const GramTileCudaCode GramTileCuda_f32, GramTileCuda_f64;
