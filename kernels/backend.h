/* Who evaluates tiles of the kernel matrix: a plain reference, SIMD loops, a GPU. */
#pragma once

#include "gram.h"
#include "kernel.h"

typedef struct _p_GramBackend *GramBackend; /* a way of evaluating, and its precision */
typedef struct _p_GramTiles   *GramTiles;   /* two point sets, made ready by a backend */

/*
  Of the entries; sums across tiles are double.

  mixed   entries in float, from coordinates relative to the centre of each tile: close pairs keep their digits
  single  entries in float, from coordinates relative to the centre of all points
*/
typedef enum { GRAM_DOUBLE, GRAM_MIXED, GRAM_SINGLE } GramPrecision;

/* "double", "mixed", "single": the values of -product_precision; NULL after the last. Not collective. */
const char *GramPrecisionName(int precision);

/* What the points of a side stand for: the value there, the gradient there, or the value and then the gradient. */
typedef enum { GRAM_VALUE = 1, GRAM_GRADIENT = 2, GRAM_JOINT = 3 } GramPart;

/* How a tile is used: y_I += B v_J alone; u_J += B' w_I as well, from the same entries; or rows and columns are
   the same points in the same order, B is symmetric and each pair is evaluated once for y_I += B v_J. */
typedef enum { GRAM_TILE_ONCE, GRAM_TILE_BOTH, GRAM_TILE_DIAGONAL } GramTileUse;

/* Rows [row, row + n_rows) of X against rows [col, col + n_cols) of Z. */
typedef struct {
  PetscInt    row, n_rows, col, n_cols;
  GramTileUse use;
} GramTile;

/**
  GramBackendCreateFromOptions - The backend named by -backend (auto, cpu, ref), with -product_precision.

  Collective on comm. auto takes the first that finds its hardware.
  Free with GramBackendDestroy(), after everything created from it.

  Errors: GRAM_ERR_INPUT for a backend that is not built or finds no hardware.
**/
PetscErrorCode GramBackendCreateFromOptions(MPI_Comm comm, GramBackend *backend);

/* The same by name; NULL or "auto" picks. */
PetscErrorCode GramBackendCreate(MPI_Comm comm, const char *name, GramPrecision precision,
                                 GramBackend *backend);
PetscErrorCode GramBackendDestroy(GramBackend *backend);

/* Not collective. name: "cpu"; detail: what is behind it, such as "avx512". Any output may be NULL. */
PetscErrorCode GramBackendGetInfo(GramBackend backend, const char **name, const char **detail,
                                  GramPrecision *precision);

/**
  GramBackendMeasurePeak - Multiply-adds of single numbers per second that one core runs, measured now (some 10 ms).

  Not collective. In the precision of the entries; 0 where it is not known.
**/
PetscErrorCode GramBackendMeasurePeak(GramBackend backend, PetscLogDouble *fma_per_second);

/* Multiplications and multiply-adds that one evaluated pair needs in a product with q columns of values: dim for the
   distance, 7 (float: 3) for 2^-u with AVX-512 and 12 (float: 7) elsewhere, those of the profile's polynomial, q for
   the sum and as many for the mirrored sum. With the peak this bounds the pairs per second. Additions and roots run
   beside them and are not counted. */
PetscLogDouble GramBackendFmaPerPair(GramBackend backend, const GramKernel *kernel, PetscInt q,
                                     PetscBool both);

/* The i-th backend this build knows, in order of preference; NULL after the last. Not collective. */
const char *GramBackendName(int i);

/**
  GramTilesCreate - Hand two point sets to a backend.

  Not collective.

  @param[in]  backend borrowed
  @param[in]  kernel  copied; its amplitude and ridge play no role here: tiles are phi
  @param[in]  rows    what a row point stands for: GRAM_VALUE (1 number), GRAM_GRADIENT (dim), GRAM_JOINT (1 + dim)
  @param[in]  m, x    [m][dim] row points, divided by the length scale; copied
  @param[in]  cols    what a column point stands for
  @param[in]  n, z    [n][dim] column points, likewise; NULL: the row points again
  @param[out] tiles   free with GramTilesDestroy()

  The block of the row point x and the column point z is phi(r) with its derivatives in these scaled coordinates:

      [ phi          d phi / dz'       ]   value of x
      [ d phi / dx   d2 phi / dx dz'   ]   gradient at x

  Errors: PETSC_ERR_SUP for derivatives of a profile that has none at r = 0.
**/
PetscErrorCode GramTilesCreate(GramBackend backend, const GramKernel *kernel, GramPart rows, PetscInt m,
                               const PetscReal *x, GramPart cols, PetscInt n, const PetscReal *z,
                               GramTiles *tiles);
PetscErrorCode GramTilesDestroy(GramTiles *tiles);

/* Numbers a point of dim coordinates carries: 1, dim or 1 + dim. */
static inline PetscInt GramPartSize(GramPart part, PetscInt dim)
{
  return (part & GRAM_VALUE ? 1 : 0) + (part & GRAM_GRADIENT ? dim : 0);
}

/**
  GramTilesApply - y_I += B(X_I, Z_J) v_J for every tile (I, J) of a list; where a tile is used for both,
  u_J += B(X_I, Z_J)' w_I as well.

  Not collective. Row-major arrays; a and b are the numbers a row and a column point carries, GramPartSize().

  @param[in]     v  [n][b][q]
  @param[in,out] y  [m][a][q]
  @param[in]     w  [m][a][q]; may be v when Z is X; NULL when no tile is used for both
  @param[in,out] u  [n][b][q]; may be y when Z is X; NULL when no tile is used for both

  y and u are not one array but for disjoint ranges: a tile used for both has other rows than columns. What a tile
  adds does not depend on the other tiles of the list. Same input, same bits: the order of all sums is fixed. With
  entries in float, v and w are within its range.
**/
PetscErrorCode GramTilesApply(GramTiles tiles, PetscInt n_tiles, const GramTile list[], PetscInt q,
                              const PetscReal *v, PetscReal *y, const PetscReal *w, PetscReal *u);

/**
  GramTilesEntries - a[j * lda + i] = phi(x_rows[i], z_cols[j]), in double whatever the precision of products;
  values only, whatever the sides stand for.

  Not collective.
**/
PetscErrorCode GramTilesEntries(GramTiles tiles, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                const PetscInt cols[], PetscReal *a, PetscInt lda);
