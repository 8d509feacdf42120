/* The preconditioner lrv: a low-rank part by pivoted Cholesky, and a sparse factor of the residual kernel. */
#pragma once

#include <petscksp.h>

#include "gram_mat.h"

/**
  GramPCRegister - Make -pc_type lrv known to PETSc; twice does nothing.

  Not collective. The operator that PCSetUp() meets must be of GramMatCreate(), positive definite profiles only. What
  MatShift() and MatScale() did to it is not in M.

      K + alpha I  ~  M = F F' + (G' G)^-1

  F has r columns (pivchol.h), G conditions each point on m neighbours in the residual kernel K - F F' + alpha I
  (vecchia.h); with r = 0 that is Vecchia's preconditioner, with m = 0, where G is I / sqrt(alpha), a Nystrom one. Applied as

      M^-1 = G' (I - U U') G,      I - U U' = (I + G F F' G')^-1

  symmetric and positive definite by construction. At the pivots of F, where the residual kernel is 0, max(alpha, 1e-5 of
  the least pivot) takes the place of alpha, and alpha is at least 1e-13 k(x, x) everywhere.

  Options:  -pc_lrv_rank       r; auto: 16, 32, ... and m = 0 as soon as the largest eigenvalue of the residual is
                               estimated to be below alpha, else 4 sqrt(N), or half of that for exponential and
                               matern 3/2 kernels in 3 coordinates at most, within 128 .. 4000, or what fits into a
                               quarter of the memory at hand
            -pc_lrv_neighbors  m; auto: 30 where that estimate stays above alpha

  -pc_view prints r, m, memory and the seconds of set-up.

  Cost of set-up: N r profile evaluations, N r^2 (1/2 + 1, 2 or 3) + N (m^2 r + m^3 / 3) multiply-adds over all ranks; of
  an application 2 N (m + 1 + r) multiply-adds, two exchanges of neighbours' values and an allreduce of r numbers.
  Memory: n_local (16 r + 12 (m + 1)) bytes: F is kept, so that it can grow.

  Source: this project's; the parts are cited where they are implemented.
**/
PetscErrorCode GramPCRegister(void);

/* Whether there is more to have: r and m that were not chosen by options, that reached what was chosen here, and are below
   their limits (rank N / 2 and 4000, 120 neighbours, memory); PETSC_FALSE for other PCs, and before PCSetUp(). Collective. */
PetscErrorCode GramPCLRVCanGrow(PC pc, PetscBool *can);

/* Twice the rank and twice the neighbours, up to those limits, in the next PCSetUp(). Collective. */
PetscErrorCode GramPCLRVGrow(PC pc);

/* r, m; alpha: what M has on its diagonal; logdet: log det M; seconds of all set-ups. Any output may be NULL. Not
   collective. */
PetscErrorCode GramPCLRVGetInfo(PC pc, PetscInt *r, PetscInt *m, PetscReal *alpha, PetscReal *logdet,
                                PetscLogDouble *seconds);
