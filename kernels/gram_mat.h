/* The kernel matrix as a PETSc shell: its entries are evaluated, never stored. */
#pragma once

#include <petscmat.h>

#include "backend.h"
#include "kernel.h"
#include "points.h"

/**
  GramMatCreate - Wrap A[i][j] = k(x_i, x_j) + alpha (i == j) in a PETSc Mat.

  Collective on the communicator of points.

  @param[in]  points   X, N rows of dim coordinates; borrowed, so destroy it after the Mat
  @param[in]  kernel   k and alpha; copied
  @param[in]  backend  evaluates the tiles; borrowed
  @param[out] A        N x N, symmetric, rows laid out as in points, marked SPD when the profile has order 0;
                       free with MatDestroy()

  The Mat supports MatMult(), MatGetDiagonal(), MatShift(), MatScale(), MatCreateVecs() and MatMatMult() with a
  MATDENSE (one pass over the kernel for every 16 of its columns): any KSP accepts it.

  Options: -product_symmetric (auto, true, false): evaluate each pair once and use it twice. The rows are cut into
  nb blocks, and block I takes the column blocks I, I + 1, ... I + nb/2 (mod nb), the cyclic cover: every rank
  has the same work at any number of ranks.

  Cost of MatMult(): N^2 / (2 size) profile evaluations a rank with the cover, N^2 / size without; an allgather of
  N doubles and, with the cover, a reduce-scatter of N doubles.
  Memory: (dim + 2 q) N doubles per rank, q columns at once; 2 dim N while it is made.

  Errors: PETSC_ERR_ARG_SIZ when kernel and points disagree on dim.
**/
PetscErrorCode GramMatCreate(GramPoints points, const GramKernel *kernel, GramBackend backend, Mat *A);

/**
  GramMatCreateCross - Wrap K[i][j] = k(t_i, x_j), M x N: predictions are its products.

  Collective. As GramMatCreate(), with the rows laid out as targets and the columns as points, without ridge;
  supports MatMult(), MatCreateVecs() and MatMatMult() with a MATDENSE.
**/
PetscErrorCode GramMatCreateCross(GramPoints targets, GramPoints points, const GramKernel *kernel,
                                  GramBackend backend, Mat *K);

/**
  GramMatGetEntries - a[j * lda + i] = A[rows[i]][cols[j]], ridge included, of any rows and columns (curve order).

  Not collective: every rank holds all points. In double whatever the backend's precision; what
  MatShift() and MatScale() did since is not in it.
**/
PetscErrorCode GramMatGetEntries(Mat A, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                 const PetscInt cols[], PetscReal *a, PetscInt lda);

/* Counters since the Mat was made; products and pairs are the same on all ranks, the others are this rank's. */
typedef struct {
  PetscInt       products;  /* MatMult() and MatMatMult() calls, whatever the number of columns */
  PetscLogDouble pairs;     /* M N per product, skipped, mirrored or neither */
  PetscLogDouble evaluated; /* profile evaluations */
  PetscLogDouble skipped;   /* evaluations that -product_tolerance made unnecessary */
  PetscLogDouble bytes;     /* received from other ranks */
  PetscLogDouble seconds;   /* in products */
} GramMatStats;

/* Not collective. */
PetscErrorCode GramMatGetStats(Mat A, GramMatStats *stats);
PetscErrorCode GramMatGetKernel(Mat A, GramKernel *kernel);

/**
  GramPanelFromInput, GramPanelToInput - Rows in input order to a MATDENSE laid out as points, and back.

  Collective. input [n_input][q] row-major, as handed to GramPointsCreate(); panel is N x q, free with MatDestroy().
**/
PetscErrorCode GramPanelFromInput(GramPoints points, PetscInt q, const PetscReal *input, Mat *panel);
PetscErrorCode GramPanelToInput(GramPoints points, Mat panel, PetscReal *input);
