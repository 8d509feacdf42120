/* Who evaluates tiles of the kernel matrix: a plain reference, SIMD loops, a GPU. */
#pragma once

#include "gram.h"
#include "kernel.h"

typedef struct _p_GramBackend *GramBackend; /* a way of evaluating, and its precision */
typedef struct _p_GramTiles   *GramTiles;   /* two point sets, made ready by a backend */

typedef enum { GRAM_DOUBLE, GRAM_SINGLE } GramPrecision; /* of the entries; sums across tiles are double */

/* What a tile holds: k or its derivatives, in the row point and in the column point. */
typedef enum { GRAM_VALUE_VALUE, GRAM_VALUE_GRADIENT, GRAM_GRADIENT_VALUE, GRAM_GRADIENT_GRADIENT } GramBlock;

/* Rows [row, row + n_rows) of X against rows [col, col + n_cols) of Z. With both, entry (i, j) also serves
   (j, i): X and Z are one set, and on the diagonal (row == col) each pair is evaluated once. */
typedef struct {
  PetscInt  row, n_rows, col, n_cols;
  PetscBool both;
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

/* The i-th backend this build knows, in order of preference; NULL after the last. Not collective. */
const char *GramBackendName(int i);

/**
  GramTilesCreate - Hand two point sets to a backend.

  Not collective.

  @param[in]  backend borrowed
  @param[in]  kernel  copied; its amplitude and ridge play no role here: tiles are phi
  @param[in]  block   GRAM_VALUE_VALUE (the others are refused: PETSC_ERR_SUP)
  @param[in]  m, x    [m][dim] row points, divided by the length scale; copied
  @param[in]  n, z    [n][dim] column points, likewise; NULL: the row points again
  @param[out] tiles   free with GramTilesDestroy()
**/
PetscErrorCode GramTilesCreate(GramBackend backend, const GramKernel *kernel, GramBlock block, PetscInt m,
                               const PetscReal *x, PetscInt n, const PetscReal *z, GramTiles *tiles);
PetscErrorCode GramTilesDestroy(GramTiles *tiles);

/**
  GramTilesApply - y_I += phi(X_I, Z_J) v_J for every tile (I, J) of a list; with both, y_J += phi(X_I, Z_J)' v_I.

  Not collective.

  @param[in]     v  [n][q], row-major
  @param[in,out] y  [m][q], row-major
**/
PetscErrorCode GramTilesApply(GramTiles tiles, PetscInt n_tiles, const GramTile list[], PetscInt q,
                              const PetscReal *v, PetscReal *y);

/**
  GramTilesEntries - a[j * lda + i] = phi(x_rows[i], z_cols[j]), in double whatever the precision of products.

  Not collective.
**/
PetscErrorCode GramTilesEntries(GramTiles tiles, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                const PetscInt cols[], PetscReal *a, PetscInt lda);
