/* Who evaluates tiles of the kernel matrix: a plain reference, SIMD loops, a GPU. */
#pragma once

#include "gram.h"
#include "kernel.h"

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct _p_GramBackend *GramBackend; /* a way of evaluating, and its precision */
typedef struct _p_GramTiles   *GramTiles;   /* two point sets, made ready by a backend */

/*
  Of the entries; sums across tiles are double.

  mixed   entries in float, from coordinates relative to the centre of each tile: close pairs keep their digits
  single  entries in float, from coordinates relative to the centre of all points (cuda: as mixed, which is as fast there)
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
  GramBackendCreateFromOptions - The backend named by -backend (auto, or a GramBackendName()), with -product_precision.

  Collective on comm. auto takes the first that finds its hardware on every rank; the first time that one is passed over
  for want of it, rank 0 of PETSC_COMM_WORLD says so in a line on standard error:

      gramarye: backend auto: no CUDA device found, products run on cpu (avx512)

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

/* Bytes of host memory that tiles of so many points keep beside what the formulas of gram_mat.h count. Not collective. */
PetscLogDouble GramBackendHostBytes(GramBackend backend, PetscInt points, PetscInt dim, PetscInt q);

/**
  GramBackendMeasurePeak - Multiply-adds of single numbers per second that one core runs, measured now (some 10 ms).

  Not collective. In the precision of the entries; 0 where it is not known.
**/
PetscErrorCode GramBackendMeasurePeak(GramBackend backend, PetscLogDouble *fma_per_second);

/**
  GramBackendDeviceBytes - What products need of a device's memory, and what this rank's share of it has left.

  Not collective. Tiles of m row points and n column points (0: the row points again) of dim coordinates, products of q
  columns. Both 0 for a backend without memory of its own.
**/
PetscErrorCode GramBackendDeviceBytes(GramBackend backend, PetscInt m, PetscInt n, PetscInt dim, PetscInt q,
                                      PetscLogDouble *need, PetscLogDouble *have);

/* Multiplications and multiply-adds that one evaluated pair needs in a product with q columns of values: dim for the
   distance, 7 (float: 3) for 2^-u with AVX-512 and 12 (float: 7) elsewhere, those of the profile's polynomial, q for
   the sum and as many for the mirrored sum. With the peak this bounds the pairs per second. Additions and roots run
   beside them and are not counted. */
PetscLogDouble GramBackendFmaPerPair(GramBackend backend, const GramKernel *kernel, PetscInt q,
                                     PetscBool both);

/* The i-th backend this build knows, in order of preference; NULL after the last. Not collective. */
const char *GramBackendName(int i);

/* Does that backend find its hardware? detail [size]: as of GramBackendGetInfo(), or what is missing. Collective on comm. */
PetscErrorCode GramBackendProbe(MPI_Comm comm, int i, PetscBool *found, char detail[], size_t size);

/* dst [bytes] = src [bytes], done on return. Host memory, and where GramBackendReachesDevice() also that of its
   device: panels of GramTilesMalloc(), vectors that live there. Not collective. */
PetscErrorCode GramBackendCopy(GramBackend backend, void *dst, const void *src, size_t bytes);

/* Does GramBackendCopy() take device memory? Not collective. */
PetscBool GramBackendReachesDevice(GramBackend backend);

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

/* Promise that the sum of a row will not depend on which rows stand beside it in a tile, nor on how rows are cut into
   tiles: reproducible products with rows that each rank cuts for itself need it. cpu and ref always keep it; another
   backend may be slower for it. Not collective. */
PetscErrorCode GramTilesSetRowwise(GramTiles tiles);

/* What a panel is for: v and w, written by MPI and GramBackendCopy() alone and read by the backend; y and u, in host
   memory, where the backend leaves its sums. */
typedef enum { GRAM_PANEL_IN, GRAM_PANEL_OUT } GramPanelUse;

/**
  GramTilesMalloc - Memory for a panel of numbers, where the backend reaches it best.

  Not collective. Products take panels from anywhere in host memory too, these may be faster. One of use GRAM_PANEL_IN
  may be on a device, if MPI can receive there: the host does not touch it. Free with GramTilesFree(), before the
  tiles; NULL for no numbers, and freeing NULL does nothing.
**/
PetscErrorCode GramTilesMalloc(GramTiles tiles, GramPanelUse use, size_t numbers, PetscReal **panel);
PetscErrorCode GramTilesFree(GramTiles tiles, PetscReal **panel);

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
  GramTilesBegin, GramTilesFilled, GramTilesAdd, GramTilesEnd - The same in pieces, so that rows of v and w may still be
  on their way while tiles that do not read them are evaluated.

  Not collective. One product of these tiles at a time, its calls in this order:

      Begin   borrows v, y, w, u until End, sized and shared as for GramTilesApply(); y and u hold what is added to
      Filled  rows first ... first + n of v (of w when w is PETSC_TRUE) are there now and stay as they are; each row
              once, before a tile that reads it is added. Where w is v, one array, those of v are enough.
      Add     y_I += B(X_I, Z_J) v_J and u_J += B(X_I, Z_J)' w_I of a list. It may return before that is done; the list
              is then free again, y and u are not.
      End     y and u hold the sums; v and w may be written again.

  The order of Add calls and of the tiles in their lists is the order of the sums: same order, same bits. Where a
  backend adds tile after tile it does not matter how they are cut into lists; no caller may rely on that.
**/
PetscErrorCode GramTilesBegin(GramTiles tiles, PetscInt q, const PetscReal *v, PetscReal *y,
                              const PetscReal *w, PetscReal *u);
PetscErrorCode GramTilesFilled(GramTiles tiles, PetscBool w, PetscInt first, PetscInt n);
PetscErrorCode GramTilesAdd(GramTiles tiles, PetscInt n_tiles, const GramTile list[]);
PetscErrorCode GramTilesEnd(GramTiles tiles);

/* Seconds of products on a device, since the tiles were made: by its own clock, from the first evaluation to the last
   sum, with what it waits for in between. 0 where there is none. Not collective. */
PetscErrorCode GramTilesGetDeviceSeconds(GramTiles tiles, PetscLogDouble *seconds);

/**
  GramTilesEntries - a[j * lda + i] = B[rows[i]][cols[j]], in double whatever the precision of products.

  Not collective. rows and cols count numbers: that of point i and part p (0: its value) is i a + p, a of GramPartSize();
  for values alone the points themselves. Numbers of a point that stand together in a list share what they take.
**/
PetscErrorCode GramTilesEntries(GramTiles tiles, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                const PetscInt cols[], PetscReal *a, PetscInt lda);

#if defined(__cplusplus)
}
#endif
