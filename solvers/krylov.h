/* Krylov solves that do not stop at what a recursion claims: restarts, refinement, and a preconditioner that grows. */
#pragma once

#include <petscksp.h>

#include "residual.h"
#include "solve.h"

/**
  GramKrylovCreate - A KSP for A with the defaults of GramSolve(), its options read and checked.

  Collective. Free with KSPDestroy().

  Errors: GRAM_ERR_INPUT for tolerances out of range, and for options that exclude each other.
**/
PetscErrorCode GramKrylovCreate(Mat A, KSP *ksp);

/* Methods that would never see the tolerance are GRAM_ERR_INPUT. */
PetscErrorCode GramKrylovCheck(KSP ksp);

/**
  GramKrylovSolve - A X = B to ||b - A x|| <= goal by the true operator, in every column.

  Collective.

  @param[in]     ksp      from GramKrylovCreate(); its operator may become the true one
  @param[in]     refine   A is less than the true operator: solve for corrections
  @param[in]     goal     [q]
  @param[in]     control  of GramSolve()
  @param[out]    X        N x q MATDENSE: the best iterates
  @param[in,out] residual of A and B; out: norms of the columns of X and of their residuals
  @param[out]    report   iterations, exact_from, history, pc..., eigenvalues; reason: why the first column that
                          missed its goal ended, "" where none did or none can do better

  GramSolve() says what is done, solve.h what report holds. Columns go through it in panels. Conjugate gradients
  on the unpreconditioned norm solve them together (pcg.h), other methods one after the other, as do reproducible
  products, whose sums take PETSc's vectors.
**/
PetscErrorCode GramKrylovSolve(KSP ksp, PetscBool refine, Mat B, const PetscReal goal[],
                               const GramSolveControl *control, Mat X, GramResidual *residual,
                               GramReport *report);
