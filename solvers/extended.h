/* Quadrature weights of few nodes in extended precision: worst-case errors far below what double can tell from 0. */
#pragma once

#include "mean.h"

/* What is recommended at most, for time and memory */
#define GRAM_EXTENDED_MOST 1000

typedef struct {
  PetscReal
      wce_squared; /* of the weights as returned, without alpha: never clipped, may be below its error */
  PetscReal wce_squared_equal; /* of weights 1 / n */
  PetscReal wce_squared_error; /* bound on the rounding error of the two */
  PetscInt  singular;          /* row of K + alpha I where its factor breaks down, -1: nowhere */
  PetscInt  twin;              /* a node at the same place as that row, -1: none */
} GramExtended;

/* Half a unit in the last place of what K, z and I are evaluated in: 2^-113 of quad precision, 2^-53 where the compiler has none.
   Not collective. */
PetscReal GramExtendedEpsilon(void);

/**
  GramExtendedWeights - (K + alpha I) w = z, and the worst-case error of w.

      wce^2 = I - 2 w'z + w'Kw

  Not collective: one rank has all nodes.

  @param[in]  kernel     k and alpha, the one of mean
  @param[in]  mean       z and I
  @param[in]  n, x       [n][dim] nodes
  @param[in]  z          [n] of GramMeanEvaluate(), for a measure of samples; NULL: in extended precision, of a box
  @param[in]  sum_to_one w += (1 - 1'w) / (1'u) u, (K + alpha I) u = 1
  @param[out] w          [n] weights, rounded to double
  @param[out] result     where singular >= 0, nothing else is set: alpha is too small, or nodes coincide

  K, z, I and the worst-case error are evaluated in quad precision. K + alpha I is factored in pairs of doubles, hi + lo, of
  2^-104, which vector instructions are fast at; only where a pivot is not positive in them, in quad precision again.
  Errors of the factor stay small beside the worst-case error even when the smallest pivots are noise: with
  (K + D) v = z in place of K w = z the square grows by (v - w)'K(v - w) ~ |D v|^2 / pivot. What w loses when it is rounded to
  double is in it.

      wce_squared_error = (n + 100) epsilon (|I| + 2 |w|'|z| + |w|'|K||w|) + 2 |w|'(error of z) + (error of I)

  of GramMeanGetErrors(). Means over samples are double's, and so is then the error. With alpha = 0 nodes that coincide are found
  by their coordinates, whatever the pivots are.

  Cost: n^2 / 2 kernels at about 1 us, n^3 / 3 multiply-adds (1000 nodes: 1 s). Memory: 32 n^2 bytes.

  Source: T. J. Dekker, Numer. Math. 18 (1971) 224-242; Y. Hida, X. Li, D. Bailey, ARITH-15 (2001) 155-162.
**/
PetscErrorCode GramExtendedWeights(const GramKernel *kernel, GramMean mean, PetscInt n, const PetscReal x[],
                                   const PetscReal z[], PetscBool sum_to_one, PetscReal w[],
                                   GramExtended *result);

/* The errors of given weights w [n]: nothing is factored, alpha plays no role, singular and twin are -1. Not collective. */
PetscErrorCode GramExtendedError(const GramKernel *kernel, GramMean mean, PetscInt n, const PetscReal x[],
                                 const PetscReal z[], const PetscReal w[], GramExtended *result);
