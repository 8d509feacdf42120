/* Preconditioned conjugate gradients for several right-hand sides at once: each has its own scalars, all share the
   products. */
#pragma once

#include <petscksp.h>

/* A column on its way, by the recursion. */
typedef struct {
  PetscInt         it;             /* iterations */
  PetscReal        norm, rz;       /* ||r||_2, r'M^-1 r of r = b - A x */
  PetscReal        form;           /* (x - x_0)'A (x - x_0); from x_0 = 0 also b'x */
  const PetscReal *diagonal, *off; /* [it], [it - 1] of the tridiagonal matrix of Lanczos */
} GramPCGState;

/* Least and largest eigenvalue of that matrix, within those of M^-1 A; NaN without iterations. Not collective. */
PetscErrorCode GramPCGRitz(const GramPCGState *state, PetscReal *least, PetscReal *largest);

/* Called for each column at work, at it = 0 and after each iteration, when x is in X: a reason other than
   KSP_CONVERGED_ITERATING ends the column. */
typedef PetscErrorCode (*GramPCGTest)(void *ctx, PetscInt column, const GramPCGState *state,
                                      KSPConvergedReason *reason);

/* What became of a column. */
typedef struct {
  KSPConvergedReason reason;     /* of the test, or KSP_DIVERGED_INDEFINITE_MAT, _PC, _NANORINF */
  PetscInt           iterations; /* but for the one that met p'Ap <= 0 */
  PetscReal          eigenvalue_min, eigenvalue_max; /* of M^-1 A, Ritz values; NaN without iterations */
} GramPCGColumn;

/* What CG knows beside x: the last direction, and r' M^-1 r before the step along it; 0 where there was none. With the
   residual of the recursion, going on costs nothing; without, a product, and rounding that the recursion did not have. */
typedef struct {
  Mat        P;     /* N x q MATDENSE laid out as B */
  Mat        R;     /* likewise, or NULL */
  PetscBool  has_R; /* R is the residual of what X is */
  PetscReal *rz;    /* [q] */
} GramPCGDirections;

/**
  GramPCG - Solve A X = B, A and the preconditioner symmetric positive definite.

  Collective.

  @param[in]     A       supports MatMatMult() with a MATDENSE
  @param[in]     pc      of A; PCMatApply() is asked for
  @param[in]     B       N x q MATDENSE laid out as A
  @param[in,out] X       N x q MATDENSE; its entries are the initial guess when from_x, else ignored
  @param[in,out] directions  NULL, or the last directions: in, with from_x, those to go on from as if nothing had come
                 between; out, those of each column when it ended
  @param[in]     test    with ctx: says when a column is done
  @param[out]    columns [q]
  @param[out]    products  columns multiplied by A, in all

  A column that is done leaves the panels, and the others go on. One iteration takes a product and an application of
  the preconditioner, of as many columns as are left, and two allreduces of one and of two numbers a column; at the
  beginning there is one application more.

  Memory: 4 N q numbers over all ranks, and 2 a column and iteration for the Ritz values.

  Source: M. Hestenes, E. Stiefel, J. Research NBS 49 (1952) 409-436; the tridiagonal matrix of Lanczos in it, Y. Saad,
  Iterative Methods for Sparse Linear Systems, 2nd ed., SIAM 2003, section 6.7.3.
**/
PetscErrorCode GramPCG(Mat A, PC pc, Mat B, Mat X, PetscBool from_x, GramPCGDirections *directions,
                       GramPCGTest test, void *ctx, GramPCGColumn columns[], PetscInt *products);
