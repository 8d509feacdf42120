/* The preconditioner lrv: a low-rank part by pivoted Cholesky, and a sparse factor of the residual kernel. */
#pragma once

#include <petscksp.h>

#include "gram_mat.h"

/* A ridge below this times k(x, x) is lost in rounding; below this times trace(K), where K is numerically singular. */
#define GRAM_LRV_ALPHA_LEAST 1e-13

/**
  GramPCRegister - Make -pc_type lrv known to PETSc; twice does nothing.

  Not collective. The operator that PCSetUp() meets must be of GramMatCreate(), positive definite profiles only. What
  MatShift() and MatScale() did to it is not in M.

      K + alpha I  ~  M = F F' + (G' G)^-1

  F has r columns (pivchol.h), G conditions each point on m neighbours in the residual kernel K - F F' + alpha I
  (vecchia.h); with r = 0 that is Vecchia's preconditioner, with m = 0, where G is I / sqrt(alpha), a Nystrom one. Applied as

      M^-1 = G' (I - W C^-1 W') G,      W = G F,   C = I + W' W

  symmetric and positive definite by construction. At the pivots of F, where the residual kernel is 0, max(alpha, 1e-5 of
  the least pivot) takes the place of alpha; alpha is at least 1e-13 k(x, x) everywhere, and 1e-13 trace(K) where columns
  have exhausted K.

  Options:  -pc_lrv_rank       r; auto: from columns that cost a tenth of a product at most, doubled while the residual is not
                               below 1e-9 alpha and either the next ones promise to save more than they cost, or
                               neighbours will be needed and r is below 4 sqrt(N), half of that for Matern kernels in
                               3 coordinates at most, twice that in 7 and more, within 128 .. 4000. At most what fits
                               into a quarter of the memory
            -pc_lrv_neighbors  m; auto: 30, 10 in 7 coordinates and more, and 0 where that will take no longer, set-up
                               included

  Iterations with m = 0 are predicted from an estimate of the largest eigenvalue of the residual (pivchol.h), which
  with alpha bounds the condition; with m = 30 they are taken to be 10. Costs are counted in multiply-adds.

  -pc_view prints r, m, memory and the seconds of set-up.

  Cost of set-up: N r profile evaluations, N r^2 (1 to 4) / 2 + N (m^2 r + m^3 / 3) multiply-adds over all ranks; of
  an application 2 N (m + 1 + r) multiply-adds, two exchanges of neighbours' values and an allreduce of r numbers;
  PCMatApply() takes several columns to one allreduce. Memory: n_local (16 r + 12 (m + 1)) + 8 r^2 bytes, half of the
  first where m = 0 and one pass of Cholesky QR is enough: F is kept, so that it can grow.

  Source: this project's; the parts are cited where they are implemented.
**/
PetscErrorCode GramPCRegister(void);

/* Whether there is more to have: r and m that were not chosen by options, that reached what was chosen here, and are below
   their limits (rank N / 2 and 4000, 120 neighbours and none more in 7 coordinates, memory); PETSC_FALSE for other PCs, and before PCSetUp(). Collective. */
PetscErrorCode GramPCLRVCanGrow(PC pc, PetscBool *can);

/* Neighbours where there were none; else twice the rank and twice the neighbours, up to those limits. In the next
   PCSetUp(). What a quarter of the memory that is free does not hold is left, with a line on stderr. Collective. */
PetscErrorCode GramPCLRVGrow(PC pc);

/* What PCSetUp() has made. */
typedef struct {
  PetscInt       rank, neighbors; /* r, m */
  PetscInt       numerical_rank;  /* of K, where the columns have exhausted it; else -1 */
  PetscReal      alpha;           /* what M has on its diagonal */
  PetscReal      logdet;          /* log det M */
  PetscReal      error;           /* estimate of ||I - A M^-1||_2 where m = 0, else infinity */
  PetscLogDouble bytes;           /* that this rank was expected to need for it, as GramPCLRVBytes() */
  PetscLogDouble seconds;         /* of all set-ups */
} GramLRVInfo;

/* Not collective. */
PetscErrorCode GramPCLRVGetInfo(PC pc, GramLRVInfo *info);

/**
  GramPCLRVGetInverseDiagonal - The diagonal of M^-1, after PCSetUp().

  Collective.

  @param[out] d [n_local] rows laid out as the operator

  M^-1 = G' G - V V', V = G' W T^-1: sums of squares of the columns of G and of the rows of V. Cost: of r columns of
  G' products, and N r^2 / 2 operations over all ranks; memory n_local r numbers while it runs.
**/
PetscErrorCode GramPCLRVGetInverseDiagonal(PC pc, PetscReal d[]);

/* What growth has come to, to be handed to the PC of a later run before its PCSetUp(): it then makes the same M. Not
   collective. */
typedef struct {
  PetscInt  rank, neighbors; /* limits of the choice; 0: not grown */
  PetscBool grown, insist;
} GramLRVGrowth;

PetscErrorCode GramPCLRVGetGrowth(PC pc, GramLRVGrowth *growth);
PetscErrorCode GramPCLRVSetGrowth(PC pc, const GramLRVGrowth *growth);

/* Bytes that this rank needs at the peak of set-up for n points: for as many columns and neighbours as are chosen at
   first, or as -pc_lrv_rank and -pc_lrv_neighbors say. Fewer columns, or no neighbours, may turn out to be enough, and
   what is slow grows: see GramLRVInfo. Collective on comm. */
PetscErrorCode GramPCLRVBytes(MPI_Comm comm, const GramKernel *kernel, PetscInt n, PetscLogDouble *bytes);
