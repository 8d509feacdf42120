/* The variance of a prediction: what the points leave open at a target. */
#pragma once

#include "solve.h"

#define GRAM_VARIANCE_RTOL 1e-4

/**
  GramVarianceAt - v(t) = k(t, t) - [k(X, t); p(t)]' S^-1 [k(X, t); p(t)], S = [A, P; P' 0] the whole system with ridge and tail.

  Collective. It is the variance of the function without noise, alpha more that of an observation.

  @param[in]  solver  of S; need not have solved anything yet
  @param[in]  backend evaluates k(X, T), in double whatever its precision
  @param[in]  T       targets, in the coordinates of A's points
  @param[out] v       [n_local] of T, in units of k, >= 0
  @param[out] missed  targets on all ranks that iterations did not bring to GRAM_VARIANCE_RTOL; v is then too large

  With the tail eliminated (tail.h), g = kappa(X, t):

      v = kappa(t, t) - g'B^-1 g

  direct solver: by its factor. iterative: conjugate gradients with its preconditioner, GRAM_PANEL targets at a time. They
  find forms from below (GramSolverInverse()), so v from above, and end when what is missing is a tenth of GRAM_VARIANCE_RTOL
  of v, by a bound that takes the least eigenvalue of M^-1 B from Ritz values. Rounding leaves an absolute error of
  some eps (kappa(t, t) + |x|'|B||x|), x = B^-1 g: what is smaller is noise, and iterations do not go there.

  Cost: an application of the factor's inverse, or a solve, for each target. Memory: the targets and two panels, and what
  iterations take, pcg.h.
**/
PetscErrorCode GramVarianceAt(GramSolver solver, GramBackend backend, GramPoints T, PetscReal v[],
                              PetscInt *missed);
