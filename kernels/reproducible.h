/* Sums that do not depend on their order, and vectors whose dots and norms are such sums. */
#pragma once

#include <math.h>

#include <petscvec.h>

#include "gram.h"

/*
  Pre-rounded summation. Let B >= sum |p_i|. With T = 1.5 * 2^e, 2^e >= 4 B,

      q = (T + p) - T     is p rounded to a multiple of u = 2^(e - 52), the unit in the last place of T,
      r = p - q           is exact, |r| <= u / 2.

  Sums of any of the q are multiples of u below 2^53 u: floating-point adds them without rounding, in any order, on
  any ranks, by any MPI_SUM. The r go to a second fold with a T of their own. What is left after it is dropped: of
  n terms, less than n^2 B 2^-100, on top of the one rounding of the final sum of the two folds.

  Sums with an infinity or a NaN among their terms are NaN, and so are those of B > 2^1019: products take
  B = N max |v|, dots B = n max |x_i y_i|.

  Source: J. Demmel and H. D. Nguyen, Fast reproducible floating-point summation, ARITH 21 (2013) 163-172, Alg. 5;
  the exactness of q and r: S. M. Rump, T. Ogita, S. Oishi, Accurate floating-point summation I, SIAM J. Sci.
  Comput. 31 (2008) 189-224, Lemma 3.3.
*/
#define GRAM_FOLDS 2

/**
  GramFoldsBegin - The T of both folds, for at most n terms whose magnitudes sum to at most bound.

  Not collective: call it with the same n and bound on all ranks.
**/
void GramFoldsBegin(PetscReal n, PetscReal bound, PetscReal t[GRAM_FOLDS]);

/**
  GramFoldsAdd - Add a panel to its folds: folds[i][r] takes p[i][r].

  Not collective. p [n][q], t [q][GRAM_FOLDS], folds [n][q][GRAM_FOLDS], zero to begin with. To join the folds of
  several ranks add them, number by number; the sum itself is folds[0] + folds[1].
**/
void GramFoldsAdd(PetscInt n, PetscInt q, const PetscReal *p, const PetscReal *t, PetscReal *folds);

/* The larger magnitude of two, infinity when either is not a number: MPI_MAX of such is the same in any order. */
static inline PetscReal GramLarger(PetscReal largest, PetscReal p)
{
  return PetscAbsReal(p) <= largest ? largest : PetscIsNanReal(p) ? INFINITY : PetscAbsReal(p);
}

/**
  GramExactDots - z[k] = sum_i x_i y[k]_i over all ranks: the same bits at any number of them.

  Collective on comm.

  @param[in]  n_local terms of this rank
  @param[in]  n       terms of all ranks
  @param[in]  x       [n_local]
  @param[in]  count   number of sums, all from one exchange
  @param[in]  y       [count][n_local]; NULL instead of a vector: the sum of x alone
  @param[out] z       [count], on all ranks

  The bound is B = n max |x_i y_i|. Cost: two passes, and two allreduces (maximum, then folds) where a plain dot has
  one. Error: n^3 max_i |x_i y_i| 2^-100 and a rounding.
**/
PetscErrorCode GramExactDots(MPI_Comm comm, PetscInt n_local, PetscInt n, const PetscReal *x, PetscInt count,
                             const PetscReal *const y[], PetscReal z[]);

/**
  GramVecSetExact - From now on VecDot(), VecTDot(), VecMDot(), VecMTDot(), VecDotNorm2() and VecNorm() of x,
  and of every vector duplicated from it, are exact sums.

  Not collective, but for all ranks alike. x is "seq" or "mpi", its entries spread in any way. VecAXPY(),
  VecAXPBY() and VecMAXPY(), which PETSc leaves to BLAS, become plain loops: BLAS may treat the entries
  differently by their place in the array.

  Split sums, VecDotBegin() and its kin, are refused with PETSC_ERR_SUP: PETSc adds their parts itself. So pipelined
  Krylov methods (pipecg, groppcg, ...) have no reproducible form.
**/
PetscErrorCode GramVecSetExact(Vec x);

/* A new vector of that kind. Collective on comm. */
PetscErrorCode GramVecCreateExact(MPI_Comm comm, PetscLayout layout, VecType type, Vec *x);
