/* Leave-one-out: the error at each point of the model that is fitted without it. */
#pragma once

#include <petscmat.h>

#include "solve.h"

/* Residuals y_i - mean_{-i}(x_i), in the units of Y. */
typedef struct {
  PetscReal
      *value; /* [n_local][q] rows as A's points: the value of point i is left out, its gradient stays */
  PetscReal *
      block; /* [n_local] value and gradient are left out; NULL without gradients, and where error is there */
  PetscReal *error; /* [n_local][q] standard error of value; NULL: it is exact */
} GramLeaveOneOut;

/**
  GramLeaveOneOutCreate - e_i = a_i / (S^-1)_ii, S = [A, P; P' 0] the whole system with ridge and tail.

  Collective.

  @param[in]  solver that has solved S [C; c] = [Y; 0]
  @param[in]  C      N x q MATDENSE, its coefficients
  @param[out] loo    free with GramLeaveOneOutDestroy()

  Whole points: e = ((S^-1)_ii block)^-1 a_i, 1 + dim square. With the tail eliminated, the block of S^-1 is
  E' B^-1 E, E = Z' e_i (tail.h).

  direct solver: exact, 2 N^3 operations more. iterative: the diagonal of B^-1 is estimated from 30 random
  vectors z of signs,

      diag B^-1  ~  diag M^-1 + mean z (B^-1 z - M^-1 z),     at least 1 / B_ii,

  M the preconditioner lrv, whose inverse has a diagonal at N r operations a row: what is estimated is only by how much M
  misses. error is that of the mean over the probes, as far as their number tells, carried over to e_i. The rows that a tail
  eliminates are computed one by one.

  Source: S. Rippa, Adv. Comput. Math. 11 (1999) 193-210; M. F. Hutchinson, Commun. Stat. Simul. 19 (1990) 433-450; with a
  preconditioner as control variate, C. Bekas, E. Kokiopoulou, Y. Saad, Appl. Numer. Math. 57 (2007) 1214-1229.
**/
PetscErrorCode GramLeaveOneOutCreate(GramSolver solver, Mat C, GramLeaveOneOut *loo);
PetscErrorCode GramLeaveOneOutDestroy(GramLeaveOneOut *loo);
