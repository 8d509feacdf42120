/* Quadrature rules: weights of nodes, and the worst-case error they leave. */
#pragma once

#include "extended.h"
#include "solve.h"

typedef enum { GRAM_WEIGHTS_OPTIMAL, GRAM_WEIGHTS_EQUAL, GRAM_WEIGHTS_NONNEGATIVE } GramWeightsMethod;

/* What a rule is worth. */
typedef struct {
  PetscReal wce_squared; /* of the weights, without alpha: never clipped, may be below its error */
  PetscReal wce_squared_equal;
  PetscReal wce_squared_error; /* bound on the rounding error of the two */
  PetscReal sum, least;        /* of the weights */
  PetscInt  negative;          /* how many are */
  PetscBool extended;          /* in twice the digits of double */
  PetscReal alpha;             /* the ridge they were solved with */
  PetscBool raised;            /* it is not kernel's */
  PetscBool converged, stopped;
  PetscInt  iterations; /* of the linear solve and of the constrained one */
  PetscReal relative_residual;
  char      reason[32];
} GramRule;

/**
  GramQuadratureWeights - Weights of nodes X for a measure, and their worst-case error.

  Collective.

      wce^2 = I - 2 w'z + w'Kw

      optimal      (K + alpha I) w = z, the smallest wce^2 + alpha w'w
      equal        1 / n
      nonnegative  the smallest of that over w >= 0: optimal weights where these are; else by TAO, up to
                   GRAM_SOLVE_DIRECT_MAX nodes by Newton's method on the first rank, with a ridge of
                   GRAM_NONNEGATIVE_ALPHA at least, beyond by limited-memory steps, which small ridges do not let converge

  @param[in]  X, kernel, backend nodes, k and alpha; who evaluates the products of more than GRAM_EXTENDED_MOST nodes
  @param[in]  mean        of kernel over the measure
  @param[in]  sum_to_one  optimal: w += (1 - 1'w) / (1'u) u, (K + alpha I) u = 1, the minimum under that condition;
                          nonnegative: scaled to that sum
  @param[in]  automatic   in extended precision a ridge of 0 is raised to the least of 1e-30, 1e-28, ... amplitude^2 with which the
                          factor succeeds, where no nodes coincide
  @param[in]  control     NULL, or who may stop the solve of many nodes: w is then of no use
  @param[out] w           [n_local] on the curve
  @param[out] rule        where not converged, weights of the best iterate

  Up to GRAM_EXTENDED_MOST nodes by the first rank in extended precision (extended.h), else by GramSolve() with -solve_*,
  -ksp_*, -pc_* and in double: the error bound is then (512 + n / 128) u (I + 2 |w|'z + |w|'K|w|), sums being of blocks of 256,
  u half a unit in the last place, with what the means lack.

  Errors: GRAM_ERR_INPUT where alpha is 0 and K is singular, naming nodes that coincide.
**/
PetscErrorCode GramQuadratureWeights(GramPoints X, const GramKernel *kernel, GramBackend backend,
                                     GramMean mean, GramWeightsMethod method, PetscBool sum_to_one,
                                     PetscBool automatic, const GramSolveControl *control, PetscReal w[],
                                     GramRule *rule);

#define GRAM_NONNEGATIVE_RTOL 1e-10 /* of the projected gradient, to that at w = 0 */
#define GRAM_NONNEGATIVE_ALPHA \
  1e-6 /* times amplitude^2: the least ridge under which weights are constrained */

/* Names of the methods, as -weights_method has them; NULL after the last. Not collective. */
const char *GramWeightsMethodName(int method);
