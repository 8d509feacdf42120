/* The kernel matrix as a PETSc shell: its entries are evaluated, never stored. */
#pragma once

#include <petscmat.h>

#include "backend.h"
#include "kernel.h"
#include "points.h"

/* How products are spread over the ranks: see GramMatCreate(). A plain struct. */
typedef struct {
  PetscMPIInt pr, pc;       /* process grid, rank = r pc + c; pr pc is the number of ranks */
  PetscBool   symmetric;    /* evaluate each pair once, use it twice */
  PetscBool   reproducible; /* the same bits on any number of ranks and any grid */
  PetscReal   tolerance;    /* of skipped tiles, 0: none is skipped */
  PetscInt    block;        /* points of which ranks own whole blocks: GramPointsCreate() wants it */
} GramSchedule;

/* Columns that a product takes at once, at most: more come in even shares, one pass over the kernel each, so that
   buffers and messages do not grow with them. */
#define GRAM_PANEL 32
static inline PetscInt GramMatPasses(PetscInt q) { return q / GRAM_PANEL + (q % GRAM_PANEL > 0); }

/**
  GramScheduleFromOptions - Read and check -product_grid, -product_symmetric, -product_reproducible and
  -product_tolerance.

  Collective on comm. GramMatCreate() reads the same options; a program calls this first, to be told of mistakes
  before it works, and for the block of GramPointsCreate().

  Errors: GRAM_ERR_INPUT naming the key, its value and the limit.
**/
PetscErrorCode GramScheduleFromOptions(MPI_Comm comm, GramSchedule *schedule);

/* Bytes a rank needs for a Mat of n points and products of q columns: the formulas of GramMatCreate(), with the points
   that exist only while it is made, and the copy in float of a precision that has one. Not collective. */
PetscLogDouble GramScheduleBytes(const GramSchedule *schedule, const GramKernel *kernel, PetscInt n,
                                 PetscInt q);

/* The same of a device's memory, need and have of GramBackendDeviceBytes() for a rank that has an even share. Not
   collective. */
PetscErrorCode GramScheduleDeviceBytes(const GramSchedule *schedule, GramBackend backend,
                                       const GramKernel *kernel, PetscInt n, PetscInt q, PetscLogDouble *need,
                                       PetscLogDouble *have);

/* And for m targets spread over the ranks, GramMatCreateCross() of n points. */
PetscErrorCode GramCrossDeviceBytes(MPI_Comm comm, GramBackend backend, PetscInt m, PetscInt n, PetscInt dim,
                                    PetscInt q, PetscLogDouble *need, PetscLogDouble *have);

/**
  GramMatCreate - Wrap A[i][j] = k(x_i, x_j) + alpha (i == j) in a PETSc Mat.

  With kernel->gradients a point stands for 1 + dim numbers, its value and its gradient, one after the other, and A is
  N (1 + dim) square, the covariance of values and gradients with a ridge on each:

      A_ij = [ k + alpha (i == j)    (grad_z k)'                              ]
             [ grad_x k              grad_x grad_z' k + alpha_gradient (i == j) I ]    at x = x_i, z = x_j

  symmetric and positive definite: the gradient's coefficients multiply derivatives in the centre x_j. A pair takes O(dim)
  operations, one pass a column. N below counts points, bytes and panels 1 + dim numbers for each.

  Collective on the communicator of points.

  @param[in]  points   X, N rows of dim coordinates; borrowed, so destroy it after the Mat
  @param[in]  kernel   k and alpha; copied
  @param[in]  backend  evaluates the tiles; borrowed
  @param[out] A        N x N, symmetric, rows laid out as in points, marked SPD when the profile has order 0;
                       free with MatDestroy()

  The Mat supports MatMult(), MatGetDiagonal(), MatShift(), MatScale(), MatCreateVecs() and MatMatMult() with a
  MATDENSE (one pass over the kernel for every GRAM_PANEL of its columns, in even shares): any KSP accepts it. Vectors
  may live on the device of the backend.

  -product_symmetric (auto, true, false): evaluate each pair once and use it twice. The curve is cut into nb blocks
  of at most 1024 points, as many on each rank, and block I takes the column blocks I, I + 1, ... I + nb/2 (mod nb),
  the cyclic cover.

  -product_grid (auto, 1d, 2d, or pr,pc): ranks form a grid, rank = r pc + c. R is what the ranks of a row of the grid
  own together, a stretch of the curve of about N / pr points; C what those of a column own, a piece of N / size points
  in each of the pr stretches. A rank evaluates the tiles R x C:

      gather     v on C over the column of the grid; with the cover v on R over its row too
      tiles      row block I in R, column block J in C, where I takes J
      reduce     y on R over the row of the grid; with the cover y on C over its column too

  The tiles of this rank's own rows and columns, R and C of the same points, go first, while the gathers are under way
  (not so for reproducible products, whose order of sums must not know ranks).

  Without the cover that is all of R x C; with it, the arc of nb/2 blocks that I takes meets C equally often
  for all I together, since C repeats after nb / pr blocks and R is that long. Every rank evaluates N^2 / size pairs,
  N^2 / (2 size) with the cover, but for what a point more or less of its own makes. auto = 1d is size x 1: C is everything, R this
  rank's own rows; 2d is the grid nearest to a square, pr >= pc.

  Bytes received per rank and product, n_local = N / size its rows, q columns at once:

      1d           8 q (N - n_local), and with the cover 8 q N (size - 1) / size more
      pr x pc      8 q (|C| - n_local) + 8 q |R| (pc - 1) / pc, and with the cover
                   8 q (|R| - n_local) + 8 q |C| (pr - 1) / pr more

  (an allgather brings what others own, a reduce-scatter of m numbers over p ranks m (p - 1) / p in the best
  algorithms).

  Memory per rank in numbers of 8 bytes, q now GRAM_PANEL at most. Points: dim N, half of that more in
  precisions that hold them in float; a grid of pc > 1 holds R and C for the tiles and all points once more
  for GramMatGetEntries(), so dim (N + |R| + |C|). While it is made, dim N more, dim |C| too when pc > 1.
  Panels: 2 q N in 1d, 2 q (|R| + |C|) on a grid of pc > 1 (half without the cover), and 3 q n_local for what
  is sent and received.

  -product_tolerance t (0): skip tiles of short-range kernels, with a proof; every row of y is then within
  t sum_j |K_ij| |v_j| of what it is without. skip.h has the bound. Each product decides anew, from v. At 0 nothing
  is skipped but tiles beyond the support of a compact profile, which are 0. With the cover a pair is skipped both ways
  or neither, but the operator depends on v: certify answers with one of tolerance 0. Costs nb^2 / size distances and
  profiles a product, 16 q nb bytes, and 2 (dim + q) nb numbers of memory with up to 64 (2 dim + 1) a block of this
  rank.

  -product_reproducible (false): y has the same bits on any number of ranks and any grid, all on the same kind
  of processor (backends choose instructions by it), and so have the dots and norms of vectors from
  MatCreateVecs() and their duplicates. All ranks then cut the same tiles, since they own whole blocks (pass
  block of GramScheduleFromOptions() to GramPointsCreate()), and the sums of tiles are added in a form that
  rounds nothing (reproducible.h). What a backend adds for a tile must not depend on the other tiles of a
  list; symmetric or not, precision and number of columns still matter. Costs 12 operations per row, tile and
  column, where a tile has 1024 evaluations; the bytes of reduces double, dots take two allreduces; panels are
  3 q N + 2 q (|R| + |C|) + 5 q n_local numbers. Ranks differ by a block of rows: with 30 000 points on 4
  ranks the slowest has 12 % more pairs than an even share (18 % on 2 x 2), with ten times the points a tenth
  of that.

  Source: the grid, B. Hendrickson, R. Leland, S. Plimpton, An efficient parallel algorithm for matrix-vector
  multiplication, Int. J. High Speed Computing 7 (1995) 73-88.

  Errors: PETSC_ERR_ARG_SIZ when kernel and points disagree on dim; PETSC_ERR_ARG_WRONG when a reproducible Mat gets
  points in other blocks; those of GramScheduleFromOptions(); GRAM_ERR_INPUT for -product_tolerance with gradients, and
  for -product_reproducible with them or with a kernel that grows.
**/
PetscErrorCode GramMatCreate(GramPoints points, const GramKernel *kernel, GramBackend backend, Mat *A);

/**
  GramMatCreateCross - Wrap K[i][j] = k(t_i, x_j), M x N: predictions are its products.

  Collective. As GramMatCreate(), with the rows laid out as targets and the columns as points, without ridge;
  rows says what a target stands for: GRAM_VALUE, or its gradient or both as well, dim or 1 + dim rows each;
  supports MatMult(), MatCreateVecs() and MatMatMult() with a MATDENSE. Always 1d and without cover, whatever the grid
  of the square matrix. Rows are summed where they live, with -product_reproducible block after block: as points
  then come in whole blocks, y does not depend on the ranks. -product_tolerance applies, but not to reproducible
  products: the blocks of targets, by which it decides, do depend on them.
**/
PetscErrorCode GramMatCreateCross(GramPoints targets, GramPart rows, GramPoints points,
                                  const GramKernel *kernel, GramBackend backend, Mat *K);

/* -product_tolerance of one Mat: 0 makes it exact again, for residuals; a Mat that was created at 0 skips less than one
   created at the tolerance, and a reproducible one of GramMatCreateCross() nothing. Not collective, but alike on all
   ranks. */
PetscErrorCode GramMatSetTolerance(Mat A, PetscReal tolerance);

/* When A is reproducible, the columns of a MATDENSE (as MatDenseGetColumnVec() hands them out), and vectors duplicated
   from them, get the dots and norms of MatCreateVecs(A). Not collective, but for all ranks alike. */
PetscErrorCode GramMatMatchPanel(Mat A, Mat panel);

/**
  GramMatGetEntries - a[j * lda + i] = A[rows[i]][cols[j]], ridge included, of any rows and columns (curve order).

  Not collective: every rank holds all points. Of a Mat of GramMatCreateCross() rows are this rank's targets,
  counted from its first. In double whatever the backend's precision; what MatShift() and MatScale() did since
  is not in it. With gradients number p of point i is row i (1 + dim) + p.
**/
PetscErrorCode GramMatGetEntries(Mat A, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                 const PetscInt cols[], PetscReal *a, PetscInt lda);

/**
  GramMatGetKernelEntries, GramMatGetKernelDiagonal, GramMatGetBlock - What a preconditioner looks at: D K D, the matrix
  without its ridge, in units that make derivatives comparable to values.

  Not collective.

  @param[out] numbers  of a point: 1, with gradients 1 + dim; the same D and ridge at every point
  @param[out] unit     [numbers] the diagonal of D, 1 for values, of the order of the length scale for derivatives
  @param[out] ridge    [numbers] what D A D has on its diagonal beside D K D; either may be NULL
  @param[in]  first, n rows of the diagonal d [n]
**/
PetscErrorCode GramMatGetKernelEntries(Mat A, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                       const PetscInt cols[], PetscReal *a, PetscInt lda);
PetscErrorCode GramMatGetKernelDiagonal(Mat A, PetscInt first, PetscInt n, PetscReal d[]);
PetscErrorCode GramMatGetBlock(Mat A, PetscInt *numbers, PetscReal unit[], PetscReal ridge[]);

/* A Mat that is made of one of GramMatCreate() composes that one under this name, and functions for its own entries:
   everything here then takes it too. */
#define GRAM_MAT_INNER           "GramMatInner"
#define GRAM_MAT_ENTRIES         "GramMatGetEntries_C"
#define GRAM_MAT_KERNEL_ENTRIES  "GramMatGetKernelEntries_C"
#define GRAM_MAT_KERNEL_DIAGONAL "GramMatGetKernelDiagonal_C"

/* Counters since the Mat was made; products and pairs are the same on all ranks, the others are this rank's. Backends
   evaluate more than the pairs needed: the cpu about 5/8 m^2 of a diagonal tile of m points. */
typedef struct {
  PetscInt       products;  /* MatMult() and MatMatMult() calls, whatever the number of columns */
  PetscLogDouble pairs;     /* M N per product, skipped, mirrored or neither */
  PetscLogDouble evaluated; /* pairs needed, the mean of a product's passes; m^2 / 2 of a diagonal tile */
  PetscLogDouble skipped; /* pairs that -product_tolerance or a compact profile made unnecessary, likewise */
  PetscLogDouble bytes;   /* received from other ranks, by the formulas above */
  PetscLogDouble seconds; /* in products */
  PetscLogDouble device_seconds; /* of those on the device of the backend: GramTilesGetDeviceSeconds() */
} GramMatStats;

/* Not collective. */
PetscErrorCode GramMatGetStats(Mat A, GramMatStats *stats);
PetscErrorCode GramMatGetKernel(Mat A, GramKernel *kernel);
PetscErrorCode GramMatGetPoints(Mat A, GramPoints *points);          /* its columns; borrowed */
PetscErrorCode GramMatGetPrecision(Mat A, GramPrecision *precision); /* of its backend */

/**
  GramPanelFromInput, GramPanelToInput - Rows in input order to a MATDENSE laid out as points, and back.

  Collective. input [n_input][numbers][q] row-major, as handed to GramPointsCreate(), numbers of a point: GramMatGetBlock();
  panel is N numbers x q, free with MatDestroy().
**/
PetscErrorCode GramPanelFromInput(GramPoints points, PetscInt numbers, PetscInt q, const PetscReal *input,
                                  Mat *panel);
PetscErrorCode GramPanelToInput(GramPoints points, PetscInt numbers, Mat panel, PetscReal *input);
